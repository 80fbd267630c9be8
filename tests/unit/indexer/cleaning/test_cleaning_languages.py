"""Language detection of titles: correct with evidence, none without."""

from __future__ import annotations

import pytest

from shelfwise.indexer.cleaning.language import detect


@pytest.mark.parametrize(
    ("title", "language"),
    [
        ("Cordless drill driver 18V with two batteries and case", "en"),
        ("Women's winter jacket with hood", "en"),
        ("Damen Winterjacke wasserdicht mit Kapuze", "de"),
        ("Klappbarer Campingstuhl", "de"),
        ("Perceuse visseuse sans fil 18V avec deux batteries", "fr"),
        ("Imprimante multifonction pour le bureau", "fr"),
        ("Abrigo de invierno para mujer con capucha", "es"),
        ("Trapano avvitatore a batteria 18V con valigetta", "it"),
        ("Winterjas voor dames met capuchon", "nl"),
        ("Luminária de mesa LED com fio", "pt"),
        ("Kurtka zimowa damska z kapturem", "pl"),
        ("Mobilskal till Samsung Galaxy genomskinligt", "sv"),
        ("得力电钻家用充电式手电钻", "zh"),
        ("Bosch 电动工具套装 12V", "zh"),
        ("コードレスドリル 18V", "ja"),
        ("무선 드릴 18V", "ko"),
        ("Чайник электрический, чёрный", "ru"),
        ("Шуруповерт акумуляторний із двома батареями", "uk"),
        ("Κατσαβίδι μπαταρίας 18V", "el"),
        ("مثقاب لاسلكي 18 فولت", "ar"),
        ("สว่านไร้สาย 18V", "th"),
    ],
)
def test_language_of_a_title_is_detected(title: str, language: str) -> None:
    assert detect([title]) == [language]


WITHOUT_LANGUAGE = (
    "GSR 12V-15|HP EliteBook 840 G5|iPhone 12 Pro Max|006R90321|Bosch|Le Creuset|10 kΩ||-|Samsung Galaxy Black|"
    "Nike Air Max 90|Philips Hue|1/2 in. x 4 in.|Apple iPhone 15 Pro Max Silicone 壳|"
    "Skruemaskine med to batterier og taske|Zahradní hadice s tryskou|Şarjlı matkap|Mașină de găurit cu acumulator"
)


@pytest.mark.parametrize("title", WITHOUT_LANGUAGE.split("|"))
def test_language_of_ambiguous_titles_is_unknown(title: str) -> None:
    assert detect([title]) == [""]


def test_detection_does_not_depend_on_other_titles() -> None:
    titles = ["Damen Winterjacke", "Cordless drill", "GSR 12V", "电钻", "Silla plegable para camping"] * 3
    assert detect(titles) == [detect([title])[0] for title in titles]
    assert detect([]) == []
