#!/usr/bin/env bash
# praatio 6.2.2 (Python), with files that tgt 1.5 writes, against TextGrid 1.6.1
#
# Expected: what one library writes as a short TextGrid the other reads whole.
# What happens: tgt ends its short form without a newline. praatio then loses
#   the last interval and says nothing; with a newline behind it, all are there.
#   TextGrid reads both alike.
# Why it matters: the last interval is the last word, or the silence that says
#   where it ends; alignments go from tool to tool, and nobody counts them.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet praatio==6.2.2 tgt==1.5 TextGrid==1.6.1 numpy
cat > "$tmp/show.py" <<'PY'
import sys
import textgrid, tgt
from praatio import textgrid as praatio

place = sys.argv[1]
words = ['the', 'train', 'leaves']
tier = tgt.IntervalTier(start_time=0, end_time=3, name='words')
for n, word in enumerate(words):
    tier.add_interval(tgt.Interval(n, n + 1, word))
grid = tgt.TextGrid()
grid.add_tier(tier)
tgt.write_to_file(grid, place, format='short')
with open(place) as file:
    text = file.read()
with open(place + '.newline', 'w') as file:
    file.write(text + '\n')

def by_praatio(path):
    grid = praatio.openTextgrid(path, includeEmptyIntervals=True)
    return [own.label for own in grid.getTier('words').entries]

def by_textgrid(path):
    return [own.mark for own in textgrid.TextGrid.fromFile(path)[0]]

print('  written               ', words, '- ends with a newline:', text.endswith('\n'))
print('  TextGrid              ', by_textgrid(place))
print('  praatio               ', by_praatio(place))
print('  praatio, newline added', by_praatio(place + '.newline'))
lost = by_praatio(place) == words[:-1]
whole = by_textgrid(place) == by_praatio(place + '.newline') == words
sys.exit(not (lost and whole and not text.endswith('\n')))
PY
echo "praatio 6.2.2, tgt 1.5, TextGrid 1.6.1"
if "$tmp/venv/bin/python" "$tmp/show.py" "$tmp/words.TextGrid"; then
    echo "as described: without a newline at the end the last interval is lost"
else
    echo "not as described" >&2
    exit 1
fi
