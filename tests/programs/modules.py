# Tests of modules of the standard library that are written in Python: sorting, searching, wrapping, patterns, colours, fractions,
# differences. Nothing depends on time, process number or chance, nor on where a library is: types are hashed by address, so none is
# a shared object's. The number of rounds is the argument.
import sys

sys.modules["_decimal"] = None

import bisect
import colorsys
import difflib
import fractions
import heapq
import re
import textwrap

TEXT = "the quick brown fox jumps over the lazy dog and does so again because nobody has seen it the first time "


def numbers(count, seed):
    for _ in range(count):
        seed = (seed * 1103515245 + 12345) % 2147483648
        yield seed % 1000


def test_heaps(seed):
    heap = []
    for number in numbers(60, seed):
        heapq.heappush(heap, number)
    taken = [heapq.heappop(heap) for _ in range(len(heap))]
    assert taken == sorted(numbers(60, seed))
    assert heapq.nsmallest(5, taken) == taken[:5]
    return sum(taken)


def test_searches(seed):
    found = []
    for number in numbers(60, seed):
        bisect.insort(found, number)
    assert all(found[bisect.bisect_left(found, number)] == number for number in found)
    return len(set(found))


def test_wrapping(seed):
    width = 20 + seed % 30
    lines = textwrap.wrap(TEXT * 2, width)
    assert max(map(len, lines)) <= width and " ".join(lines).split() == (TEXT * 2).split()
    return len(textwrap.dedent("\n".join("   " + line for line in lines)))


def test_patterns(seed):
    words = re.findall(r"\b[b-q]\w{2,}", TEXT)
    turned = re.sub(r"(\w+) (\w+)", lambda match: match[2] + " " + match[1], TEXT)
    assert sorted(turned.split()) == sorted(TEXT.split())
    try:
        re.compile("(" * (1 + seed % 3))
    except re.error as error:
        return len(words) + error.pos
    raise AssertionError("an open group")


def test_colours(seed):
    for red in numbers(10, seed):
        colour = (red / 1000, 0.25, 0.75)
        back = colorsys.hsv_to_rgb(*colorsys.rgb_to_hsv(*colour))
        assert all(abs(one - other) < 1e-9 for one, other in zip(colour, back))
    return 10


def test_fractions(seed):
    total = sum((fractions.Fraction(1, 1 + number) for number in numbers(12, seed)), fractions.Fraction(0))
    assert total - total == 0 and total.limit_denominator(1000).denominator <= 1000
    return len(str(total))


def test_differences(seed):
    old, new = TEXT.split(), sorted(TEXT.split(), key=lambda word: (len(word) * seed % 7, word))
    assert list(difflib.restore(difflib.ndiff(old, new), 2)) == new
    return len(list(difflib.unified_diff(old, new)))


total = 0
for number in range(int(sys.argv[1])):
    for name, test in sorted(globals().items()):
        if name.startswith("test_"):
            total = (total * 31 + test(number)) % 1000000007
print("total", total)
