"""Tables in Markdown, and values of a study's rows as they stand in them."""

FEW = 5


def table(head, rows):
    """Nothing where there are no rows."""
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def marked(tables, group, key, digits=3):
    """A value with its interval; with a star where that is of fewer than five utterances, and no 95% interval.

    One utterance alone has none.
    """
    row = tables.rows.get((*group, *key))
    if row is None:
        return "-"
    value, count = tables.value(group, key, digits), int(row["utterances"])
    if count == 1:
        value = value.split(" ")[0]
    return value + ("*" if count < FEW else "")


def parts(tables, group, source, statistic, words):
    """Parts of the attention that have rows: with two words the layers, with four the heads; in order."""
    names = (key[4].split() for key in tables.rows if key[:4] == (*group, source, statistic))
    found = [name for name in names if name[:1] == ["layer"] and len(name) == words]
    return [" ".join(name) for name in sorted(found, key=lambda name: [int(number) for number in name[1::2]])]


def with_onsets(tables):
    return [group for group in tables.groups if (*group, "even", "onset error, mean", "") in tables.rows]
