#!/usr/bin/env bash
# praat-textgrids 1.4.0 (Python), against TextGrid 1.6.1 and tgt 1.5
#
# Expected: in a TextGrid a quote within a label is written twice, as Praat does;
#   whoever reads the file makes one of two again.
# What happens: praat-textgrids takes all quotes off both ends of a label and
#   leaves those within doubled: he said "hi" comes back as he said ""hi, and
#   "so as so. Nothing is said of it. The other two read what was written.
# Why it matters: words of an alignment are matched with the words of a text;
#   a quoted word is another one then, and loses its onset.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet praat-textgrids==1.4.0 TextGrid==1.6.1 tgt==1.5 numpy
cat > "$tmp/show.py" <<'PY'
import sys
import textgrid, textgrids, tgt

labels = ['he said "hi"', '"so', 'plain']
place = sys.argv[1]
head = ['File type = "ooTextFile"', 'Object class = "TextGrid"', '', 'xmin = 0 ', 'xmax = 3 ',
        'tiers? <exists> ', 'size = 1 ', 'item []: ', '    item [1]:',
        '        class = "IntervalTier" ', '        name = "words" ', '        xmin = 0 ',
        '        xmax = 3 ', '        intervals: size = 3 ']
for n, label in enumerate(labels):
    twice = label.replace('"', '""')
    head += [f'        intervals [{n + 1}]:', f'            xmin = {n} ',
             f'            xmax = {n + 1} ', f'            text = "{twice}" ']
with open(place, 'w') as file:
    file.write('\n'.join(head) + '\n')
seen = {
    'TextGrid': [own.mark for own in textgrid.TextGrid.fromFile(place)[0]],
    'tgt': [own.text for own in tgt.io.read_textgrid(place).tiers[0]],
    'praat-textgrids': [str(own.text) for own in textgrids.TextGrid(place)['words']],
}
print('  written         ', labels)
for name, own in seen.items():
    print(f'  {name:16}', own)
ok = seen['TextGrid'] == seen['tgt'] == labels
sys.exit(not (ok and seen['praat-textgrids'] == ['he said ""hi', 'so', 'plain']))
PY
echo "praat-textgrids 1.4.0, TextGrid 1.6.1, tgt 1.5"
if "$tmp/venv/bin/python" "$tmp/show.py" "$tmp/words.TextGrid"; then
    echo "as described: quotes are lost at the ends of labels and doubled within"
else
    echo "not as described" >&2
    exit 1
fi
