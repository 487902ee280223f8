"""How numbers read, by one rule each: in the terminal, in the page, in messages, in both languages.

Special here: every rule rounds the double itself, exact halves to the even digit, as Python's own formatting does. So
2.675 reads 2.67, since the nearest double lies below it, and 0.125 reads 0.12. The page does the same, and
tests/vectors/numbers.json holds both to it. No width is promised: whoever builds a column measures.
"""

from collections.abc import Sequence


def percent(p: float) -> str:
    """A probability: three significant digits, from 10 % on one decimal; nothing below 0.01 % but zero itself.

    >>> percent(0.1176), percent(0.0574), percent(0.00632), percent(1.0), percent(0.00001), percent(0.0)
    ('11.8%', '5.74%', '0.632%', '100.0%', '<0.01%', '0%')
    """
    if p == 0:
        return "0%"
    if p < 0.0001:
        return "<0.01%"
    digits = 1 if p >= 0.09995 else 2 if p >= 0.009995 else 3 if p >= 0.0009995 else 4
    return f"{p:.{digits}%}"


def fixed(value: float, digits: int) -> str:
    """So many decimals, thousands grouped; as in `small` from a billion on, where decimals say nothing.

    >>> fixed(2.675, 2), fixed(0.125, 2), fixed(12345.6, 1), fixed(-0.001, 2), fixed(-0.0, 2), fixed(3e38, 2)
    ('2.67', '0.12', '12,345.6', '-0.00', '0.00', '3e38')
    """
    return small(value) if abs(value) >= 1e9 else f"{value + 0.0:,.{digits}f}"


def signed(value: float) -> str:
    """What raises or lowers: two decimals and the true sign, also where they round to zero; zero itself has none.

    >>> signed(2.088), signed(0.001), signed(-0.001), signed(0.0), signed(-12345.6)
    ('+2.09', '+0.00', '-0.00', '0.00', '-12,345.60')
    """
    return f"+{fixed(value, 2)}" if value > 0 else fixed(value, 2)


def addends(values: Sequence[float], total: float) -> list[str]:
    """Numbers whose sum is shown, as `signed` writes them but so that they add up as written.

    Those that lose most by their rounding are rounded the other way. What is too far from the total stays as it is:
    then the sum itself is wrong, and that must be seen.

    >>> addends([-0.034, 0.304, -1.804, 0.554], -0.98)
    ['-0.03', '+0.30', '-1.80', '+0.55']
    >>> addends([0.304, 0.304, 0.304], 0.912)
    ['+0.31', '+0.30', '+0.30']
    """
    if not all(abs(value) < 1e9 for value in (*values, total)):
        return [signed(value) for value in values]
    cents = [round(100 * float(f"{value:.2f}")) for value in values]
    missing = round(100 * float(f"{total:.2f}")) - sum(cents)
    lost = sorted(range(len(values)), key=lambda i: cents[i] - 100 * values[i], reverse=missing < 0)
    if abs(missing) <= len(values) / 2 + 1:
        for i in lost[: abs(missing)]:
            cents[i] += 1 if missing > 0 else -1
    return [signed(cent / 100 if cent else value / 1e9) for cent, value in zip(cents, values, strict=True)]


def count(n: int) -> str:
    """How many: all digits, thousands grouped.

    >>> count(999), count(3480)
    ('999', '3,480')
    """
    return f"{n:,}"


def perplexity(bits: float) -> str:
    """As open as how many equal choices: three significant digits of 2 to the power of `bits`, never a power of ten.

    >>> perplexity(0.0), perplexity(1.5), perplexity(11.77)
    ('1', '2.83', '3,490')
    """
    rounded = float(f"{2**bits:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else setting(rounded)


def setting(value: float) -> str:
    """A number that somebody set: the shortest decimals that are this very number, as JavaScript writes them.

    A power of ten stands only below a millionth and from 1e21 on.

    >>> setting(0.8), setting(1.0), setting(1e-05), setting(0.1 + 0.2), setting(1e-07)
    ('0.8', '1', '0.00001', '0.30000000000000004', '1e-7')
    """
    text = repr(value + 0).removesuffix(".0")
    digits, _, power = text.partition("e")
    if not power:
        return text
    from decimal import Decimal  # three milliseconds that nearly no setting needs

    return f"{Decimal(text):f}" if -7 < int(power) < 21 else f"{digits}e{int(power):+d}"


def small(error: float) -> str:
    """The size of an error: two significant digits, with a power of ten below a thousandth and from a thousand on.

    >>> small(1.24e-07), small(1e-4), small(0.25), small(0.0), small(float("inf"))
    ('1.2e-7', '1e-4', '0.25', '0', 'inf')
    """
    text = f"{error:.1e}"
    digits, _, power = text.partition("e")
    plain = not error or not power or 0.001 <= abs(float(text)) < 1000
    return setting(float(text)) if plain else f"{digits.removesuffix('.0')}e{int(power)}"


def decimals(difference: float) -> int:
    """How many decimals tell two numbers in [0, 1] apart that differ by this: four, or three digits of a smaller one.

    >>> decimals(0.02), decimals(0.00034), decimals(0.0)
    (4, 6, 17)
    """
    return 4 if difference >= 0.001 else min(17, 2 - int(f"{max(difference, 1e-15):e}".partition("e")[2]))
