"""The English half of the demo store: brands, series, title layouts, and how shoppers put their wishes."""

from __future__ import annotations

from types import MappingProxyType

from service.demo import (
    types_en_electronics,
    types_en_family,
    types_en_house,
    types_en_kitchen,
    types_en_tools,
    types_en_wear,
    wants_en,
)
from service.demo.grammar import Grammar, brand_pool

_BRANDS = {
    "tools": brand_pool(
        "Torvane TV 1.25,Kessholt KH 1.1,Brunmarck BM 1.0,Draxelby DX 0.75,Ferrolund FL 0.9,Oxmoorly OX 0.6"
    ),
    "kitchen": brand_pool(
        "Pellamo PL 1.3,Quernhill QH 1.1,Marnelle MR 1.0,Tavlohus TH 0.85,Cindrelle CD 0.7,Ostrava Hearth OH 1.5"
    ),
    "electronics": brand_pool(
        "Voxeril VX 1.2,Nimbrio NB 0.8,Pixalune PX 1.0,Tekvorra TK 0.65,Auralisk AU 1.4,Quantelle QT 0.9"
    ),
    "clothing": brand_pool(
        "Marlowe & Finch MF 1.3,Stridovar SV 1.15,Hemline Row HR 0.9,Cottonmoor CM 0.75,Velloway VW 1.0,"
        "Norrfield NF 1.1"
    ),
    "outdoor": brand_pool("Fjellkamp FK 1.35,Trailmarrow TM 1.0,Cragvale CV 1.1,Summitry Co SC 0.8,Wildhollow WH 0.7"),
    "toys": brand_pool("Bumblewick BW 1.0,Plonkadoo PK 0.8,Tinker Otter TO 1.2,Snugglebrook SB 1.05,Whirlibox WX 0.7"),
    "beauty": brand_pool("Lumisque LQ 1.4,Petalroot PR 1.0,Dewberrie DB 0.8,Saltgrove SG 1.1,Ninefern NN 0.7"),
    "pets": brand_pool("Waggonby WG 1.0,Pawthorne PT 1.2,Furlington FT 0.8,Mewsley MW 0.9,Barkhollow BH 0.7"),
    "garden": brand_pool("Greenlathe GL 1.1,Mossbourne MB 1.0,Trowelby TB 0.8,Hedgewarden HW 1.3,Loamfield LF 0.7"),
    "office": brand_pool("Inkhaven IH 1.2,Paperwren PW 1.0,Deskerly DK 0.8,Scribonne SN 1.4,Foliotte FO 0.9"),
    "furniture": brand_pool(
        "Hollowoak HO 1.2,Sittermark SM 1.0,Nordvik House NH 1.35,Cushleigh CL 0.85,Plainplank PP 0.65"
    ),
}

_SERIES = (
    "Alder Bexley Corvo Dunmore Elara Fennick Galloway Hollis Indra Jorvik Kestrel Lomond Merrow Norden Orrin "
    "Pellworm Quarrel Rowan Solway Tarn Ulver Vesper Wrenfold Yarrow Zephra Ashby Birchel Calder Driftan Emberly "
    "Fjordan Grovely Havenby Islet Junoa Keeler Larkin Mesana Novara Oriel Prismo Quillan Reefer Sabline Thistley "
    "Umbral Valmont Willowby Apexa Boltan Cinder Delphi Everly Fairlow Gambit Halcyon Ivara Jasper Kelda Lattice"
)

_SHADES = {
    "Red": ("Crimson", "Ruby"),
    "Blue": ("Navy", "Cobalt"),
    "Green": ("Olive", "Forest"),
    "Gray": ("Charcoal", "Slate"),
    "Black": ("Onyx", "Jet"),
    "White": ("Ivory", "Snow"),
    "Pink": ("Blush", "Rose"),
    "Yellow": ("Mustard", "Lemon"),
    "Brown": ("Chestnut", "Cocoa"),
    "Beige": ("Sand", "Oat"),
}

_STYLES = (
    "{brand} {series} {model} {lead} {name} {point}, {tail}",
    "{brand} {lead} {name} {series} {model} - {tail}",
    "{lead} {name} {point} by {brand}, {series} {model}, {tail}",
    "{brand} {series} {lead} {name} {model} ({tail})",
)

_CLOSINGS = {
    "Tools": ("Backed by a three-year guarantee.", "Made for the site and the shed."),
    "Kitchen": ("Loved in busy kitchens.", "Easy to clean, easy to store."),
    "Electronics": ("In the box: cable, guide, two-year guarantee.", "Set up in a minute."),
    "Clothing": ("Wash at 30 degrees.", "Model wears a size Medium."),
    "Outdoor": ("Tested in rain, wind and mud.", "Made to be repaired."),
    "Toys": ("Tested for safety.", "Free of phthalates."),
    "Beauty": ("Never tested on animals.", "Made in small batches."),
    "Pets": ("Approved by our own four-legged team.", "Questions? Our vets answer."),
    "Garden": ("Ready for many seasons.", "Store it dry in winter."),
    "Office": ("Recycled cardboard packing.", "For desks at home and at work."),
    "Furniture": ("Delivered to the room of your choice.", "Tools for assembly included."),
}

_LABELS = {
    "material": "Made of {}.",
    "color": "Color: {}.",
    "voltage_v": "Runs on {} volts.",
    "gender": "{} cut.",
    "power_w": "Rated at {} watts.",
    "capacity_oz": "Holds {} ounces.",
    "age_group": "Sized for {}.",
    "size": "Size: {}.",
    "ink_color": "Ink: {}.",
    "skin_type": "Skin type: {}.",
    "hair_type": "Hair type: {}.",
    "age_from": "From {} years.",
}

_CEILINGS = ("under ${}", "below {} dollars", "less than ${}", "max ${}", "up to {} dollars")

ENGLISH = Grammar(
    language="en",
    currency="USD",
    types=(
        types_en_tools.TYPES
        + types_en_kitchen.TYPES
        + types_en_electronics.TYPES
        + types_en_wear.TYPES
        + types_en_family.TYPES
        + types_en_house.TYPES
    ),
    brands=MappingProxyType(_BRANDS),
    series=tuple(_SERIES.split()),
    shades=MappingProxyType(_SHADES),
    styles=_STYLES,
    closings=MappingProxyType(_CLOSINGS),
    labels=MappingProxyType(_LABELS),
    ceilings=_CEILINGS,
    broad=wants_en.BROAD,
    gifts=wants_en.GIFTS,
    uses=wants_en.USES,
)
