"""Product-like texts for the encoders' tests, the same on every run."""

from __future__ import annotations

import random

_BRANDS = ("Bosch", "DeWalt", "Makita", "Xerox", "Philips", "华为", "小米")
_THINGS = ("cordless drill", "toner cartridge", "LED lamp", "notebook", "garden hose", "café press", "phone case")
_CHINESE = ("无线电钻", "蓝牙耳机", "不锈钢保温杯", "儿童自行车", "棉质床单四件套", "笔记本电脑", "充电宝")
_DETAILS = ("18V 2.0Ah", "43.2 cm", "black", "M8x40", "6 pc(s)", "红色", "with case and charger", "1/2 in", "DCD771C2")


def product_texts(count: int, *, chinese: float = 0.0, seed: int = 7) -> list[str]:
    """`count` texts of 3 to about 60 words; a share of `chinese` names the thing in Chinese."""
    dice = random.Random(seed)
    return [_text(dice, _CHINESE if dice.random() < chinese else _THINGS) for _ in range(count)]


def _text(dice: random.Random, things: tuple[str, ...]) -> str:
    details = " ".join(dice.choices(_DETAILS, k=dice.randint(0, 20)))
    return f"{dice.choice(_BRANDS)} {dice.choice(things)} {details}. {dice.choice(things)}"
