"""Identifiers of demo products: EAN-13 in the range kept for in-store use, stock numbers, model numbers."""

from __future__ import annotations

from service.demo.dice import Dice

# Multipliers without a common factor with the modulus visit every number once: unique, without looking serial.
_EAN_STEP, _EAN_START, _EAN_SPACE = 73_687_871, 12_345_677, 10**11
_SKU_STEP, _SKU_START, _SKU_SPACE = 791_903, 104_729, 10**7


def ean13_check_digit(body: str) -> str:
    """The check digit of an EAN-13's first twelve digits (GS1 General Specifications, section 7.9)."""
    total = sum(int(digit) * (3 if at % 2 else 1) for at, digit in enumerate(body))
    return str(-total % 10)


def ean13(index: int) -> str:
    """A valid EAN-13 that begins with 20 to 29 and that no other index below 10**11 has."""
    body = f"2{(_EAN_START + index * _EAN_STEP) % _EAN_SPACE:011d}"
    return body + ean13_check_digit(body)


def sku(prefix: str, index: int) -> str:
    """A stock number that no other index below 10**7 has."""
    return f"{prefix}-{(_SKU_START + index * _SKU_STEP) % _SKU_SPACE:07d}"


class ModelNumbers:
    """Hands out the model numbers of lines, each once: a brand's letters, digits, sometimes a letter."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def next(self, prefix: str, dice: Dice) -> str:
        """A model number that this object has not handed out before."""
        while True:
            number = 100 + dice.below(9900)
            model = f"{prefix}{number}{dice.pick(('', '', 'E', 'S', 'X'))}"
            if model not in self._taken:
                self._taken.add(model)
                return model
