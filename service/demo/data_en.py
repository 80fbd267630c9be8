"""The English demo catalog as data: attributes, grammar, types of products, what shoppers want."""

from __future__ import annotations

from types import MappingProxyType

from service.demo.grammar import Grammar, brand_pool, flag, kind, number, want, words

# The attributes of English products: values, how titles spell them, how shoppers ask for them.

COLOR = words("color", "Black,White,Red,Blue,Green,Gray,Pink", asks="{}")
TOOL_COLOR = words("color", "Blue,Green,Red,Yellow,Black", asks="{}")
HOME_COLOR = words("color", "Gray,Beige,Green,Blue,Brown,White", asks="{}")
INK = words("ink_color", "Black,Blue,Red,Green", title="{} Ink", asks="{}")
GENDER = words("gender", "Men's,Women's")
SHOE_SIZE = words("size", "6,7,8,9,10,11,12", title="Size {}", asks="size {}", leads=False)
CLOTHES_SIZE = words("size", "Small,Medium,Large,X-Large", asks="{}|size {}", leads=False)
PET_SIZE = words("size", "Small,Medium,Large", asks="{}")
PAN_MATERIAL = words("material", "Cast Iron,Stainless Steel,Nonstick Aluminum,Carbon Steel", asks="{}")
CUP_MATERIAL = words("material", "Stoneware,Porcelain,Glass,Enamel")
BOARD_MATERIAL = words("material", "Bamboo,Acacia,Walnut,Plastic")
FABRIC = words("material", "Cotton,Linen,Bamboo Viscose,Polyester")
SOFA_FABRIC = words("material", "Velvet,Linen,Leather,Corduroy")
POT_MATERIAL = words("material", "Terracotta,Ceramic,Plastic,Concrete")
GLOVE_MATERIAL = words("material", "Wool,Fleece,Leather")
BLADE_STEEL = words("material", "Damascus Steel,Carbon Steel,Stainless Steel")
WOOD = words("material", "Oak,Pine,Walnut,Bamboo")

VOLTAGE = number("voltage_v", "12,18,20", "{}V", "{}v|{} volt", power=0.6)
AMPS = number("amperage_a", "6,7,9", "{} Amp", "{} amp", power=0.5)
AMP_HOURS = number("capacity_ah", "2,3,4,5", "{}Ah", "{}ah|{} amp hour", power=0.5)
BIT_MATERIAL = words("material", "Titanium,Cobalt,Black Oxide,Carbide")
PIECES = number("count", "10,21,29,60", "{}-Piece", "{} piece", power=0.4)
DRIVER_PIECES = number("count", "6,12,24,44", "{}-Piece", "{} piece", power=0.4)
GRIT = number("grit", "60,80,120,220", "{} Grit", "{} grit")
DISC_INCHES = number("diameter_in", "5,6", "{}-Inch", '{} inch|{}"')
BLADE_TEETH = number("teeth", "24,40,60", "{}T", "{} tooth", power=0.3)
TOOL_LENGTH = number("length_in", "6,8,10,12", "{}-Inch", "{} inch|{} in", power=0.4)
TAPE_FEET = number("length_ft", "16,25,35", "{} ft", "{} foot|{} ft|{}'", power=0.4)
HAMMER_OZ = number("weight_oz", "10,16,20", "{} oz", "{} oz|{} ounce")
BRUSHLESS = flag("brushless", "Brushless", "brushless")
MAGNETIC = flag("magnetic", "Magnetic", "magnetic")

PAN_INCHES = number("diameter_in", "8,10,12", "{}-Inch", "{} inch|{} in", power=0.6)
QUARTS = number("capacity_qt", "1,2,3,4", "{} qt", "{} quart|{} qt", power=0.4)
KNIFE_INCHES = number("length_in", "6,8,10", "{}-Inch", "{} inch", power=0.3)
MUG_OZ = number("capacity_oz", "8,11,14", "{} oz", "{} oz|{} ounce")
TRAVEL_OZ = number("capacity_oz", "12,16,20,24", "{} oz", "{} oz|{} ounce", power=0.3)
FLASK_OZ = number("capacity_oz", "17,25,34,40", "{} oz", "{} oz|{} ounce", power=0.4)
CUPS = number("capacity_cups", "4,8,10,12", "{}-Cup", "{} cup", power=0.4)
FILTER_COUNT = number("count", "50,100,200", "{} Count", "{} count|pack of {}", leads=False, power=0.6)
KETTLE_LITERS = number("capacity_l", "1,1.5,1.7", "{} L", "{} liter|{}l")
WATTS = number("power_w", "600,900,1200", "{}W", "{} watt|{}w", power=0.5)
CONTAINERS = number("count", "4,8,12,20", "Set of {}", "set of {}|{} pack", leads=False, power=0.6)
DISHWASHER_SAFE = flag("dishwasher_safe", "Dishwasher Safe", "dishwasher safe")
LEAKPROOF = flag("leakproof", "Leakproof", "leak proof|no leak")
INDUCTION = flag("induction", "Induction Ready", "induction")

NOISE_CANCELLING = flag("noise_cancelling", "Noise Cancelling", "noise cancelling|anc")
WATERPROOF = flag("waterproof", "Waterproof", "waterproof")
CHARGER_WATTS = number("power_w", "20,30,45,65,100", "{}W", "{}w|{} watt", power=0.5)
PORTS = number("ports", "1,2,4", "{}-Port", "{} port", power=0.3)
BANK_MAH = number("capacity_mah", "5000,10000,20000,26800", "{}mAh", "{}mah|{} mah", power=0.5)
CABLE_FEET = number("length_ft", "3,6,10", "{} ft", "{} ft|{} foot", power=0.3)
LAPTOP_INCHES = number("fits_in", "13,14,15,16", "{}-Inch", "{} inch")
SWITCHES = words("switches", "Linear,Tactile,Clicky", "{} Switches", "{}")
WIRELESS = flag("wireless", "Wireless", "wireless")
BACKLIT = flag("backlit", "Backlit", "backlit|light up")
PAD_SIZE = words("size", "Small,Large,Extended", "{}", "{}")

HOODED_STYLE = words("style", "Pullover,Full-Zip", asks="{}")
FIT = words("fit", "Slim,Straight,Relaxed", "{} Fit", "{}|{} fit")
WAIST = number("waist_in", "28,30,32,34,36", "W{}", "waist {}|{} waist", leads=False)
PAIRS = number("count", "3,6,10", "{} Pairs", "{} pairs|pack of {}", leads=False, power=0.6)
TOUCHSCREEN = flag("touchscreen", "Touchscreen", "touchscreen")
LACE_INCHES = number("length_in", "36,45,54", "{} in", "{} inch")

PERSONS = number("persons", "1,2,4,6", "{}-Person", "{} person|{} man", power=0.5)
STAKE_COUNT = number("count", "8,12,20", "Pack of {}", "pack of {}", leads=False, power=0.5)
BAG_TEMP = number("comfort_f", "0,20,35,50", "{}°F", "{} degree", power=0.0)
LITERS = number("volume_l", "20,30,45,65", "{}L", "{}l|{} liter", power=0.5)
LUMENS = number("lumens", "300,600,1000,2000", "{} Lumen", "{} lumen|{} lumens", power=0.4)
RECHARGEABLE = flag("rechargeable", "Rechargeable", "rechargeable")
HELMET_SIZE = words("size", "Small,Medium,Large", asks="{}|size {}", leads=False)
AGE_GROUP = words("age_group", "Adult,Kids", asks="{}")

BRICKS = number("count", "100,250,500,1000", "{} Pieces", "{} piece|{} pieces", power=0.5)
PUZZLE_PIECES = number("count", "100,500,1000,2000", "{} Pieces", "{} piece", power=0.3)
PLUSH_INCHES = number("height_in", "8,12,20,36", "{}-Inch", "{} inch", power=0.6)
CAR_SCALE = words("scale", "1:24,1:18,1:10", "{} Scale", "{} scale|{}")
PLAYERS = words("players", "2,2-4,3-6,4-8", "{} Players", "{} players|for {} players", leads=False)
AGE_FROM = number("age_from", "3,5,8,10", "Ages {}+", "age {}|for {} year old", leads=False)

HAIR_TYPE = words("hair_type", "Dry,Oily,Curly,Color-Treated,Fine", "{} Hair", "for {} hair", leads=False)
SKIN_TYPE = words("skin_type", "Dry,Oily,Sensitive,Combination", "{} Skin", "for {} skin", leads=False)
BOTTLE_OZ = number("volume_oz", "8,12,16,32", "{} fl oz", "{} oz", leads=False, power=0.5)
CREAM_OZ = number("volume_oz", "1,2,4", "{} fl oz", "{} oz", leads=False, power=0.5)
SPF = number("spf", "15,30,50,70", "SPF {}", "spf {}|spf{}", leads=False)
FRAGRANCE_FREE = flag("fragrance_free", "Fragrance Free", "fragrance free|unscented")
DRYER_WATTS = number("power_w", "1200,1600,1875,2200", "{}W", "{} watt|{}w", power=0.5)
FLAVOR = words("flavor", "Mint,Honey,Cherry,Coconut")
BALM_COUNT = number("count", "1,3,4,8", "Pack of {}", "pack of {}|{} pack", leads=False, power=0.7)

LEASH_FEET = number("length_ft", "4,6,10,16", "{} ft", "{} ft|{} foot", power=0.2)
LITTER_LB = number("weight_lb", "10,20,40", "{} lb", "{} lb|{} pound", leads=False, power=0.7)
LITTER_KIND = words("material", "Clay,Tofu,Pine,Silica", "{}", "{}")
TREE_INCHES = number("height_in", "36,54,72", "{}-Inch", "{} inch", power=0.6)
FOOD_FLAVOR = words("flavor", "Chicken,Salmon,Lamb,Beef", "{}", "{}")
GRAIN_FREE = flag("grain_free", "Grain Free", "grain free")

HOSE_FEET = number("length_ft", "25,50,75,100", "{} ft", "{} foot|{} ft", power=0.6)
SPRAYS = number("patterns", "4,7,10", "{}-Pattern", "{} pattern")
MOWER_INCHES = number("deck_in", "14,17,20,21", "{}-Inch", "{} inch", power=0.6)
POT_INCHES = number("diameter_in", "4,6,8,12", "{}-Inch", "{} inch", power=0.7)
SQUIRREL_PROOF = flag("squirrel_proof", "Squirrel Proof", "squirrel proof")

PEN_COUNT = number("count", "4,12,24,60", "Pack of {}", "pack of {}|{} pack", leads=False, power=0.6)
TIP = number("tip_mm", "0.5,0.7,1.0", "{} mm", "{} mm|{}mm", leads=False)
RULING = words("ruling", "Lined,Dotted,Blank,Grid", "{}", "{}")
PAPER_SIZE = words("size", "A4,A5,B5,Pocket", "{}", "{}")
PADS = number("count", "6,12,24", "{} Pads", "{} pads|pack of {}", leads=False, power=0.6)
SHEETS = number("capacity_sheets", "15,25,60", "{}-Sheet", "{} sheet", power=0.5)
STAPLE_COUNT = number("count", "1000,5000,10000", "{} Count", "{} count|box of {}", leads=False, power=0.4)

SEATS = number("seats", "2,3,4", "{}-Seater", "{} seater|{} seat", power=0.6)
SHELVES = number("shelves", "3,4,5,6", "{}-Shelf", "{} shelf|{} tier", power=0.5)
DIMMABLE = flag("dimmable", "Dimmable", "dimmable")
LUMBAR = flag("lumbar_support", "Lumbar Support", "lumbar support")


# English product types: electronics.

ELECTRONICS = (
    kind(
        "earbuds",
        "Electronics/Audio/Earbuds",
        "Wireless Earbuds|True Wireless Earbuds",
        also="bluetooth in-ears|cordless earphones",
        brands="electronics",
        price=(62, 0.55),
        weight=1.4,
        technical=True,
        varies=(COLOR,),
        fixed=(NOISE_CANCELLING, WATERPROOF),
        points="with Charging Case|30 Hours",
        related="headphones earbud_case",
        facts="Eight hours on one charge.|Pairs as soon as the case opens.|Three "
        "sizes of tips seal out the street.|Clear calls in the wind.",
    ),
    kind(
        "headphones",
        "Electronics/Audio/Headphones",
        "Over-Ear Headphones|Wireless Over-Ear Headphones",
        also="headset|studio cans",
        brands="electronics",
        price=(99, 0.55),
        technical=True,
        varies=(COLOR,),
        fixed=(NOISE_CANCELLING, WIRELESS),
        points="Foldable|with Microphone",
        related="earbuds speaker",
        facts="Soft cups for a whole flight.|Forty-millimeter drivers reach deep.|Folds into its pouch.",
    ),
    kind(
        "earbud_case",
        "Electronics/Audio/Accessories",
        "Earbuds Case|Silicone Case for Wireless Earbuds",
        also="earphone pouch",
        brands="electronics",
        price=(12, 0.3),
        varies=(COLOR,),
        points="with Carabiner|Shockproof",
        related="earbuds",
        facts="The light shines through.|Charges without taking it off.|Falls do not matter.",
    ),
    kind(
        "speaker",
        "Electronics/Audio/Speakers",
        "Bluetooth Speaker|Portable Bluetooth Speaker",
        also="wireless boombox|music box",
        brands="electronics",
        price=(52, 0.5),
        technical=True,
        varies=(COLOR,),
        fixed=(WATERPROOF, CHARGER_WATTS),
        points="for Shower|with Strap",
        related="headphones",
        facts="Fills a room from a palm.|Two of them make stereo.|Floats, and plays on.",
    ),
    kind(
        "power_bank",
        "Electronics/Charging/Power banks",
        "Power Bank",
        also="portable charger|backup phone battery",
        brands="electronics",
        price=(36, 0.45),
        weight=1.2,
        technical=True,
        varies=(BANK_MAH, COLOR),
        fixed=(PORTS,),
        points="Fast Charging|with Display|Slim",
        related="wall_charger usb_cable",
        facts="Fills a phone twice.|The display counts every percent.|Allowed in cabin baggage.",
    ),
    kind(
        "wall_charger",
        "Electronics/Charging/Chargers",
        "USB-C Wall Charger|USB-C Charger",
        also="power adapter|mains phone brick",
        brands="electronics",
        price=(27, 0.45),
        technical=True,
        varies=(CHARGER_WATTS,),
        fixed=(PORTS, COLOR),
        points="GaN|Foldable Plug",
        related="power_bank usb_cable",
        facts="Half the size of the old brick.|Shares its power wisely.|From watches to laptops.",
    ),
    kind(
        "usb_cable",
        "Electronics/Charging/Cables",
        "USB-C Cable|USB-C Charging Cable",
        also="phone cord|charger wire",
        brands="electronics",
        price=(12, 0.35),
        varies=(CABLE_FEET, COLOR),
        points="Braided|2-Pack",
        related="wall_charger power_bank",
        facts="Bends ten thousand times.|Carries a hundred watts.|The braid never tangles.",
    ),
    kind(
        "keyboard",
        "Electronics/Computer/Keyboards",
        "Mechanical Keyboard|Compact Mechanical Keyboard",
        also="typing board|gaming keypad",
        brands="electronics",
        price=(85, 0.45),
        technical=True,
        varies=(SWITCHES, COLOR),
        fixed=(WIRELESS, BACKLIT),
        points="Hot Swappable|75%",
        related="mouse mouse_pad",
        facts="Keys come off to be cleaned.|Foam inside softens the sound.|Three devices, one switch.",
    ),
    kind(
        "mouse",
        "Electronics/Computer/Mice",
        "Computer Mouse|Ergonomic Mouse",
        also="pc pointer|cursor clicker",
        brands="electronics",
        price=(28, 0.45),
        technical=True,
        varies=(COLOR,),
        fixed=(WIRELESS, BACKLIT),
        points="Silent Click|Rechargeable",
        related="mouse_pad keyboard",
        facts="Shaped for the hand at rest.|Clicks that nobody hears.|Works on glass.",
    ),
    kind(
        "mouse_pad",
        "Electronics/Computer/Mouse pads",
        "Mouse Pad|Gaming Mouse Pad",
        also="desk mat",
        brands="electronics",
        price=(14, 0.35),
        varies=(PAD_SIZE, COLOR),
        points="Stitched Edges|for Computer Mouse",
        related="mouse keyboard",
        facts="Edges never fray.|Rubber holds it to the table.|Coffee wipes off.",
    ),
    kind(
        "laptop_sleeve",
        "Electronics/Computer/Bags",
        "Laptop Sleeve|Laptop Case",
        also="notebook pouch|computer pouch",
        brands="electronics",
        price=(24, 0.35),
        varies=(LAPTOP_INCHES, COLOR),
        fixed=(WATERPROOF,),
        points="with Pocket|Padded",
        related="backpack mouse",
        facts="Thick felt guards the corners.|A pocket takes the charger.|Slim enough for any bag.",
    ),
)


# English product types: beauty, pets and toys.

FAMILY = (
    kind(
        "shampoo",
        "Beauty/Hair/Shampoo",
        "Shampoo|Moisturizing Shampoo",
        also="scalp soap|scalp cleanser",
        brands="beauty",
        price=(13, 0.45),
        weight=1.2,
        varies=(BOTTLE_OZ,),
        fixed=(HAIR_TYPE, FRAGRANCE_FREE),
        points="Sulfate Free|with Argan Oil",
        related="conditioner",
        facts="Cleans without stripping.|Rinses out fast.|Made without silicones.",
    ),
    kind(
        "conditioner",
        "Beauty/Hair/Conditioner",
        "Conditioner|Shampoo Companion Conditioner",
        also="detangling cream rinse",
        brands="beauty",
        price=(13, 0.45),
        varies=(BOTTLE_OZ,),
        fixed=(HAIR_TYPE,),
        points="Sulfate Free|Use after Shampoo",
        related="shampoo",
        facts="Combs through wet knots.|Light enough for every day.|Leave it on for two minutes.",
    ),
    kind(
        "moisturizer",
        "Beauty/Skin/Face creams",
        "Face Moisturizer|Daily Face Moisturizer",
        also="hydrating lotion|facial cream",
        brands="beauty",
        price=(22, 0.55),
        varies=(CREAM_OZ,),
        fixed=(SKIN_TYPE, FRAGRANCE_FREE),
        points="with Hyaluronic Acid|Non Greasy",
        related="sunscreen",
        facts="Sinks in within a minute.|Ceramides mend dry patches.|Sits well under make-up.",
    ),
    kind(
        "sunscreen",
        "Beauty/Skin/Sun care",
        "Sunscreen|Mineral Sunscreen",
        also="sunblock|suntan lotion",
        brands="beauty",
        price=(17, 0.4),
        varies=(SPF, CREAM_OZ),
        fixed=(SKIN_TYPE,),
        points="Broad Spectrum|Reef Friendly",
        related="moisturizer lip_balm",
        facts="Leaves no white cast.|Stays on for eighty minutes in water.|Zinc oxide, nothing that stings the eyes.",
    ),
    kind(
        "hair_dryer",
        "Beauty/Hair/Dryers",
        "Hair Dryer|Ionic Hair Dryer",
        also="blowdryer|blow drier",
        brands="beauty",
        price=(55, 0.5),
        technical=True,
        varies=(DRYER_WATTS, COLOR),
        points="with Diffuser|Foldable",
        related="shampoo conditioner",
        facts="Ions calm the frizz.|A cool shot sets the style.|Quiet enough for early mornings.",
    ),
    kind(
        "lip_balm",
        "Beauty/Skin/Lips",
        "Lip Balm|Tinted Lip Balm",
        also="mouth salve|chapped stick",
        brands="beauty",
        price=(6, 0.4),
        varies=(BALM_COUNT,),
        fixed=(FLAVOR,),
        points="with Beeswax|SPF 15",
        related="sunscreen",
        facts="Soothes cracks overnight.|No shine, no stickiness.|Fits the smallest pocket.",
    ),
    kind(
        "dog_bed",
        "Pets/Dogs/Beds",
        "Dog Bed|Orthopedic Dog Bed",
        also="puppy mattress|canine cushion",
        brands="pets",
        price=(49, 0.45),
        varies=(PET_SIZE, HOME_COLOR),
        fixed=(WATERPROOF,),
        points="with Washable Cover|Raised Rim",
        related="dog_leash dog_food",
        facts="Foam carries old joints.|The cover zips off for the wash.|The rim is a pillow.",
    ),
    kind(
        "dog_leash",
        "Pets/Dogs/Walking",
        "Dog Leash|Retractable Dog Leash",
        also="puppy lead|walking tether",
        brands="pets",
        price=(17, 0.4),
        varies=(LEASH_FEET, COLOR),
        fixed=(PET_SIZE,),
        points="Padded Handle|Reflective",
        related="dog_bed dog_food",
        facts="The clip turns and never twists.|Shines in headlights.|Soft on the hand when the dog pulls.",
    ),
    kind(
        "dog_food",
        "Pets/Dogs/Food",
        "Dry Dog Food|Puppy Dog Food",
        also="kibble|canine chow",
        brands="pets",
        price=(38, 0.45),
        varies=(LITTER_LB,),
        fixed=(FOOD_FLAVOR, GRAIN_FREE),
        points="High Protein|Small Bites",
        related="dog_bed",
        facts="Real meat comes first.|No colors, no corn.|Omega oils for a glossy coat.",
    ),
    kind(
        "cat_litter",
        "Pets/Cats/Litter",
        "Cat Litter|Clumping Cat Litter",
        also="kitty toilet grit|feline granules",
        brands="pets",
        price=(18, 0.35),
        varies=(LITTER_LB,),
        fixed=(LITTER_KIND, FRAGRANCE_FREE),
        points="Low Dust|Odor Control",
        related="cat_tree",
        facts="Clumps in seconds.|Locks smells away for two weeks.|Paws leave no tracks.",
    ),
    kind(
        "cat_tree",
        "Pets/Cats/Furniture",
        "Cat Tree|Cat Tree Tower",
        also="kitten climber|feline scratching post",
        brands="pets",
        price=(72, 0.45),
        varies=(TREE_INCHES, HOME_COLOR),
        points="with Hammock|for Large Cats",
        related="cat_litter",
        facts="Sisal posts save your chairs.|Anchors to the wall.|A lookout, a den and a swing.",
    ),
    kind(
        "building_bricks",
        "Toys/Construction/Bricks",
        "Building Bricks|Building Bricks Set",
        also="construction cubes|interlocking blocks",
        brands="toys",
        price=(29, 0.5),
        varies=(BRICKS,),
        fixed=(AGE_FROM,),
        points="with Storage Tub|Classic Colors",
        related="puzzle",
        facts="Fits all common studs.|Comes with twenty ideas.|Rounded edges for small hands.",
    ),
    kind(
        "puzzle",
        "Toys/Puzzles/Jigsaws",
        "Jigsaw Puzzle",
        also="picture tiles brain teaser",
        brands="toys",
        price=(17, 0.35),
        varies=(PUZZLE_PIECES,),
        fixed=(AGE_FROM,),
        points="Mountain Lake|Old Harbor|Night Market",
        related="board_game building_bricks",
        facts="No two pieces are cut alike.|Linen print without glare.|A poster shows the way.",
    ),
    kind(
        "plush_bear",
        "Toys/Soft toys/Bears",
        "Plush Bear|Plush Teddy Bear",
        also="stuffed animal|cuddly toy",
        brands="toys",
        price=(20, 0.45),
        varies=(PLUSH_INCHES,),
        fixed=(HOME_COLOR,),
        points="with Bow|Weighted",
        related="building_bricks",
        facts="Stitched eyes, safe from birth.|Survives the washing machine.|Softer with every hug.",
    ),
    kind(
        "rc_car",
        "Toys/Vehicles/Remote control",
        "Remote Control Car|Remote Control Truck",
        also="radio driven buggy",
        brands="toys",
        price=(46, 0.45),
        technical=True,
        varies=(CAR_SCALE, COLOR),
        fixed=(AGE_FROM,),
        points="4WD|with Two Batteries",
        related="building_bricks",
        facts="Twenty miles an hour over grass.|Two packs for forty minutes of driving.|Splashes do it no harm.",
    ),
    kind(
        "board_game",
        "Toys/Games/Board games",
        "Board Game|Family Board Game",
        also="tabletop pastime|dice and cards",
        brands="toys",
        price=(28, 0.4),
        varies=(PLAYERS,),
        fixed=(AGE_FROM,),
        points="Strategy|Cooperative|Travel Edition",
        related="puzzle",
        facts="Rules in five minutes, fun for years.|A round takes half an hour.|Everybody wins or nobody does.",
    ),
)


# English product types: garden, office and furniture.

HOUSE = (
    kind(
        "garden_hose",
        "Garden/Watering/Hoses",
        "Garden Hose|Expandable Garden Hose",
        also="yard water pipe",
        brands="garden",
        price=(36, 0.4),
        varies=(HOSE_FEET,),
        fixed=(TOOL_COLOR,),
        points="Kink Resistant|with Brass Fittings",
        related="hose_nozzle",
        facts="Stays soft in the cold.|Brass couplings do not drip.|Safe to drink from.",
    ),
    kind(
        "hose_nozzle",
        "Garden/Watering/Nozzles",
        "Garden Hose Nozzle|Hose Nozzle",
        also="watering wand|spray gun",
        brands="garden",
        price=(16, 0.35),
        varies=(TOOL_COLOR,),
        fixed=(SPRAYS,),
        points="Thumb Control|Metal",
        related="garden_hose",
        facts="From mist to jet with a turn of the dial.|The thumb lever spares your hand.|Fits every standard hose.",
    ),
    kind(
        "pruners",
        "Garden/Hand tools/Pruners",
        "Pruning Shears|Bypass Pruning Shears",
        also="secateurs|hedge clippers",
        brands="garden",
        price=(23, 0.4),
        varies=(TOOL_COLOR,),
        fixed=(BLADE_STEEL,),
        points="with Holster|for Small Hands",
        related="mower pot",
        facts="Cuts living stems without crushing them.|"
        "A sap groove keeps the blades from sticking.|Opens branches up to three quarters of an inch.",
    ),
    kind(
        "mower",
        "Garden/Machines/Lawn mowers",
        "Lawn Mower|Electric Lawn Mower",
        also="grass cutter|turf trimmer",
        brands="garden",
        price=(290, 0.4),
        technical=True,
        varies=(MOWER_INCHES,),
        fixed=(BRUSHLESS,),
        points="with Bag|Push",
        related="pruners",
        facts="One lever sets the height of the cut.|Folds flat "
        "and stands against the wall.|Mulches, bags or throws to the side.",
    ),
    kind(
        "pot",
        "Garden/Planting/Pots",
        "Plant Pot|Planter Pot",
        also="flower tub|jardiniere",
        brands="garden",
        price=(17, 0.5),
        varies=(POT_INCHES, HOME_COLOR),
        fixed=(POT_MATERIAL,),
        points="with Saucer|with Drainage Hole",
        related="pruners",
        facts="The hole and saucer keep roots from "
        "standing in water.|Frost will not crack it.|Looks good on a sill or a step.",
    ),
    kind(
        "bird_feeder",
        "Garden/Wildlife/Bird feeders",
        "Bird Feeder|Hanging Bird Feeder",
        also="finch seed station",
        brands="garden",
        price=(25, 0.4),
        varies=(TOOL_COLOR,),
        fixed=(SQUIRREL_PROOF,),
        points="with Six Perches|Window Mount",
        related="pot",
        facts="Comes apart for washing without tools.|Holds two "
        "pounds of sunflower seed.|Perches close under a squirrel's weight.",
    ),
    kind(
        "pens",
        "Office/Writing/Pens",
        "Ballpoint Pens|Retractable Ballpoint Pens",
        also="biros|writing sticks",
        brands="office",
        price=(9, 0.4),
        varies=(PEN_COUNT,),
        fixed=(INK, TIP),
        points="Medium Point|Soft Grip",
        related="notebook",
        facts="Writes at the first touch.|Ink dries before your hand gets there.|The clip survives pockets.",
    ),
    kind(
        "notebook",
        "Office/Paper/Notebooks",
        "Hardcover Notebook|Spiral Notebook",
        also="writing journal|jotter",
        brands="office",
        price=(14, 0.4),
        varies=(RULING, COLOR),
        fixed=(PAPER_SIZE,),
        points="192 Pages|with Elastic Band",
        related="pens sticky_notes",
        facts="Thick paper does not let ink through.|Lies flat when open.|A pocket at the back holds receipts.",
    ),
    kind(
        "sticky_notes",
        "Office/Paper/Notes",
        "Sticky Notes",
        also="adhesive memo slips|self stick reminders",
        brands="office",
        price=(8, 0.4),
        varies=(PADS,),
        fixed=(COLOR,),
        points="3 x 3 Inches|Pastel",
        related="notebook",
        facts="Sticks to monitors, doors and books.|Peels off without a trace.|A hundred sheets a pad.",
    ),
    kind(
        "stapler",
        "Office/Desk/Staplers",
        "Desktop Stapler|Heavy Duty Stapler",
        also="paper fastener",
        brands="office",
        price=(16, 0.4),
        varies=(COLOR,),
        fixed=(SHEETS,),
        points="with Remover|Jam Free",
        related="staples",
        facts="Needs half the force of common ones.|Opens flat for notice boards.|Loads from the front.",
    ),
    kind(
        "staples",
        "Office/Desk/Staplers",
        "Staples for Stapler|Standard Staples",
        also="wire refill clips",
        brands="office",
        price=(5, 0.3),
        varies=(STAPLE_COUNT,),
        points="Quarter Inch|Sharp Point",
        related="stapler",
        facts="Chisel points go through thick stacks.|Fits all standard machines.",
    ),
    kind(
        "sofa",
        "Furniture/Living room/Sofas",
        "Sofa|Sectional Sofa|Sofa Bed",
        also="couch|settee|comfy davenport",
        brands="furniture",
        price=(720, 0.45),
        weight=1.2,
        varies=(SEATS, HOME_COLOR),
        fixed=(SOFA_FABRIC,),
        points="with Storage|with Pillows",
        related="sofa_cover bookshelf",
        facts="The frame is kiln-dried hardwood.|Cushion covers come off for washing.|Put together in twenty minutes.",
    ),
    kind(
        "sofa_cover",
        "Furniture/Living room/Covers",
        "Sofa Cover|Stretch Sofa Slipcover",
        also="couch protector",
        brands="furniture",
        price=(42, 0.4),
        varies=(SEATS, HOME_COLOR),
        points="Machine Washable|Pet Proof",
        related="sofa",
        facts="Foam sticks keep it tucked in.|Stretches over arms of any shape.|Hides claw marks and stains.",
    ),
    kind(
        "bookshelf",
        "Furniture/Storage/Bookshelves",
        "Bookshelf|Ladder Bookshelf",
        also="library rack|etagere",
        brands="furniture",
        price=(120, 0.45),
        varies=(SHELVES,),
        fixed=(WOOD,),
        points="Wall Mounted|Open",
        related="desk_lamp",
        facts="Each board carries forty pounds.|Straps to the wall so that it cannot tip.|Fits narrow corners.",
    ),
    kind(
        "office_chair",
        "Furniture/Office/Chairs",
        "Office Chair|Ergonomic Office Chair",
        also="computer seat|swivel desk seat",
        brands="furniture",
        price=(190, 0.5),
        technical=True,
        varies=(COLOR,),
        fixed=(LUMBAR,),
        points="Mesh Back|with Headrest",
        related="desk_lamp",
        facts="Seat, arms and back all adjust.|Breathable mesh keeps you cool.|Casters roll softly over wood.",
    ),
    kind(
        "desk_lamp",
        "Furniture/Lighting/Desk lamps",
        "Desk Lamp|LED Desk Lamp",
        also="reading light|table luminaire",
        brands="furniture",
        price=(39, 0.45),
        varies=(COLOR,),
        fixed=(DIMMABLE,),
        points="with USB Port|Clamp",
        related="office_chair bookshelf",
        facts="Five tones from candle to daylight.|The arm stays where you put it.|Flicker-free, kind to tired eyes.",
    ),
)


# English product types: the kitchen.

KITCHEN = (
    kind(
        "frying_pan",
        "Kitchen/Cookware/Pans",
        "Frying Pan|Fry Pan",
        also="skillet",
        brands="kitchen",
        price=(42, 0.5),
        weight=1.4,
        varies=(PAN_INCHES,),
        fixed=(PAN_MATERIAL, INDUCTION),
        points="with Lid|Oven Safe|PFOA Free",
        related="saucepan pan_lid",
        facts="Heats evenly from edge to edge.|The handle stays cool on the stove.|Goes from hob to oven.|Eggs slide "
        "off without oil.",
    ),
    kind(
        "saucepan",
        "Kitchen/Cookware/Pots",
        "Saucepan|Saucepan with Pour Spout",
        also="milk boiler|small cooking pot",
        brands="kitchen",
        price=(36, 0.45),
        varies=(QUARTS,),
        fixed=(PAN_MATERIAL, INDUCTION),
        points="with Glass Lid|with Strainer Lid",
        related="frying_pan pan_lid",
        facts="Marks inside show the cups.|Spouts on both sides pour cleanly.|Stacks with the rest of the series.",
    ),
    kind(
        "pan_lid",
        "Kitchen/Cookware/Lids",
        "Frying Pan Lid|Universal Pan Lid",
        also="skillet topper|glass cover",
        brands="kitchen",
        price=(17, 0.35),
        varies=(PAN_INCHES,),
        points="Tempered|for Pots and Pans|Silicone Rim",
        related="frying_pan saucepan",
        facts="The rim fits three sizes.|Watch the food through the glass.|The knob never gets hot.",
    ),
    kind(
        "chef_knife",
        "Kitchen/Knives/Chef's knives",
        "Chef's Knife|Chef Knife",
        also="chopping blade|cooking blade",
        brands="kitchen",
        price=(58, 0.55),
        varies=(KNIFE_INCHES,),
        fixed=(BLADE_STEEL,),
        points="with Sheath|Full Tang",
        related="knife_sharpener cutting_board",
        facts="Balanced where you hold it.|The edge is honed at fifteen degrees.|One knife for meat, herbs and squash.",
    ),
    kind(
        "knife_sharpener",
        "Kitchen/Knives/Sharpeners",
        "Knife Sharpener|Chef's Knife Sharpener",
        also="blade honer|whetting device",
        brands="kitchen",
        price=(22, 0.4),
        varies=(COLOR,),
        points="3-Stage|Handheld",
        related="chef_knife",
        facts="Three slots: repair, sharpen, polish.|The base does not slide.|Works on scissors too.",
    ),
    kind(
        "travel_mug",
        "Kitchen/Drinkware/Travel mugs",
        "Travel Mug|Insulated Travel Mug",
        also="commuter tumbler|thermal commuter beaker",
        brands="kitchen",
        price=(24, 0.35),
        weight=1.3,
        varies=(TRAVEL_OZ, COLOR),
        fixed=(LEAKPROOF, DISHWASHER_SAFE),
        points="for Car Cup Holders|with Handle|Stainless",
        related="vacuum_flask coffee_mug water_bottle",
        facts="Keeps coffee hot for six hours.|Opens with one thumb.|Double walls never burn your hand.",
    ),
    kind(
        "vacuum_flask",
        "Kitchen/Drinkware/Flasks",
        "Vacuum Flask|Insulated Flask",
        also="thermal bottle|dewar jug",
        brands="kitchen",
        price=(33, 0.4),
        varies=(FLASK_OZ, COLOR),
        fixed=(LEAKPROOF,),
        points="with Cup Lid|Wide Mouth",
        related="travel_mug water_bottle",
        facts="Hot for eighteen hours, cold for a day.|The lid is a cup.|Survives a fall onto rock.",
    ),
    kind(
        "coffee_mug",
        "Kitchen/Drinkware/Mugs",
        "Coffee Mug|Ceramic Coffee Mug",
        also="tea cup|hot chocolate beaker",
        brands="kitchen",
        price=(14, 0.4),
        varies=(MUG_OZ, HOME_COLOR),
        fixed=(CUP_MATERIAL, DISHWASHER_SAFE),
        points="Hand Glazed|Set of Two",
        related="travel_mug coffee_maker",
        facts="The glaze makes each one different.|Safe in the microwave.|The handle takes four fingers.",
    ),
    kind(
        "coffee_maker",
        "Kitchen/Appliances/Coffee",
        "Coffee Maker|Drip Coffee Maker",
        also="espresso brewer|java machine",
        brands="kitchen",
        price=(88, 0.5),
        technical=True,
        varies=(CUPS,),
        fixed=(COLOR,),
        points="Programmable|with Glass Carafe",
        related="coffee_filters coffee_mug",
        facts="Set it at night, wake to a full pot.|Keeps the carafe warm for two hours.|A pause lets you pour early.",
    ),
    kind(
        "coffee_filters",
        "Kitchen/Appliances/Coffee",
        "Coffee Filters|Coffee Maker Paper Filters",
        also="brewing cone papers",
        brands="kitchen",
        price=(8, 0.35),
        varies=(FILTER_COUNT,),
        fixed=(CUPS,),
        points="Unbleached|for Drip Coffee Maker",
        related="coffee_maker",
        facts="No taste of paper.|Double seams do not burst.|Goes on the compost with the grounds.",
    ),
    kind(
        "kettle",
        "Kitchen/Appliances/Kettles",
        "Electric Kettle|Gooseneck Electric Kettle",
        also="water boiler|tea water heater",
        brands="kitchen",
        price=(46, 0.45),
        technical=True,
        varies=(KETTLE_LITERS, COLOR),
        points="Auto Shut Off|with Thermometer",
        related="coffee_maker vacuum_flask",
        facts="Boils in four minutes.|Turns itself off when dry.|The spout pours as thin as you like.",
    ),
    kind(
        "blender",
        "Kitchen/Appliances/Blenders",
        "Blender|Countertop Blender",
        also="smoothie machine|liquidizer",
        brands="kitchen",
        price=(79, 0.5),
        technical=True,
        varies=(WATTS,),
        fixed=(COLOR, DISHWASHER_SAFE),
        points="with To-Go Cup|Glass Jar",
        related="coffee_maker",
        facts="Crushes ice to snow.|Six blades leave no lumps.|Cleans itself with water and a drop of soap.",
    ),
    kind(
        "cutting_board",
        "Kitchen/Prep/Boards",
        "Cutting Board|Kitchen Cutting Board",
        also="chopping block|butcher slab",
        brands="kitchen",
        price=(27, 0.45),
        varies=(PAD_SIZE,),
        fixed=(BOARD_MATERIAL,),
        points="with Juice Groove|Reversible",
        related="chef_knife",
        facts="Kind to sharp edges.|The groove catches the juice.|Rubber feet hold it still.",
    ),
    kind(
        "food_containers",
        "Kitchen/Storage/Containers",
        "Food Storage Containers|Glass Food Containers",
        also="leftover boxes|meal prep tubs",
        brands="kitchen",
        price=(31, 0.4),
        varies=(CONTAINERS,),
        fixed=(LEAKPROOF, DISHWASHER_SAFE),
        points="with Lids|Stackable",
        related="cutting_board",
        facts="Lids lock on four sides.|From freezer to microwave.|Nest into each other when empty.",
    ),
)


# English product types: tools and what belongs to them.

TOOLS = (
    kind(
        "cordless_drill",
        "Tools/Power tools/Drills",
        "Cordless Drill|Drill Driver|Cordless Drill Driver",
        also="battery screwgun|power screw gun",
        brands="tools",
        price=(95, 0.45),
        weight=1.8,
        technical=True,
        varies=(VOLTAGE, TOOL_COLOR),
        fixed=(BRUSHLESS,),
        points="with Case|with Two Batteries|Bare Tool",
        related="hammer_drill impact_driver drill_bits drill_bit_case tool_battery",
        facts="Two-speed gearbox drives screws and bores wood, metal and plastic.|The keyless chuck holds shanks up to "
        "half an inch.|Twenty-one clutch settings keep screws from sinking too deep.|A work light under the chuck "
        "shows the mark.",
    ),
    kind(
        "hammer_drill",
        "Tools/Power tools/Drills",
        "Hammer Drill|Rotary Hammer Drill",
        also="masonry borer",
        brands="tools",
        price=(130, 0.4),
        technical=True,
        varies=(AMPS,),
        fixed=(TOOL_COLOR,),
        points="Corded|with Side Handle|for Concrete and Brick",
        related="cordless_drill drill_bits drill_bit_case",
        facts="Hammers through brick, block and concrete.|The side handle turns all the way around.|A depth stop makes "
        "every hole the same.|Switch the hammering off to work in wood.",
    ),
    kind(
        "drill_bits",
        "Tools/Accessories/Drill bits",
        "Drill Bit Set|Drill Bits",
        also="boring tips|twist bores",
        brands="tools",
        price=(24, 0.5),
        weight=1.4,
        varies=(PIECES,),
        fixed=(BIT_MATERIAL,),
        points="for Cordless Drill|with Case|for Metal and Wood",
        related="drill_bit_case cordless_drill hammer_drill",
        facts="The 135-degree split point starts without wandering.|Fits every common chuck.|Sizes are laser-marked "
        "on each shank.|Holds its edge in hardwood and mild steel.",
    ),
    kind(
        "drill_bit_case",
        "Tools/Accessories/Tool storage",
        "Drill Bit Case|Drill Bit Organizer",
        also="twist bore holder",
        brands="tools",
        price=(15, 0.35),
        varies=(TOOL_COLOR,),
        fixed=(MAGNETIC,),
        points="Holds 40 Drill Bits|Empty Case for Cordless Drill Bits",
        related="drill_bits tool_box",
        facts="Every slot is marked in inches and millimeters.|The lid stands up to "
        "show all sizes at once.|Bits are not included.|Snaps shut and stays shut in a tool bag.",
    ),
    kind(
        "tool_battery",
        "Tools/Accessories/Batteries",
        "Cordless Drill Battery|Power Tool Battery",
        also="spare accumulator",
        brands="tools",
        price=(58, 0.4),
        technical=True,
        varies=(AMP_HOURS,),
        fixed=(VOLTAGE,),
        points="Lithium-Ion|with Fuel Gauge",
        related="cordless_drill impact_driver",
        facts="Lithium-ion cells give full power to the end.|Four lights tell the charge.|Fits drills, drivers and "
        "saws of the same series.",
    ),
    kind(
        "impact_driver",
        "Tools/Power tools/Impact drivers",
        "Impact Driver|Cordless Impact Driver",
        also="torque gun",
        brands="tools",
        price=(110, 0.4),
        technical=True,
        varies=(VOLTAGE,),
        fixed=(BRUSHLESS, TOOL_COLOR),
        points="with Charger|Bare Tool",
        related="cordless_drill tool_battery screwdriver_set",
        facts="Rotating blows drive long screws without kickback.|The quarter-inch hex collet changes bits with one "
        "hand.|Short enough for work between joists.",
    ),
    kind(
        "circular_saw",
        "Tools/Power tools/Saws",
        "Circular Saw",
        also="lumber cutter|plywood cutter",
        brands="tools",
        price=(105, 0.4),
        technical=True,
        varies=(VOLTAGE,),
        fixed=(BRUSHLESS,),
        points="with Blade|with Rip Fence",
        related="saw_blade tool_battery",
        facts="Cuts two-by-fours in one pass.|The shoe tilts to 50 degrees for bevels.|A blower keeps the line clear.|"
        "The electric brake stops the blade in two seconds.",
    ),
    kind(
        "saw_blade",
        "Tools/Accessories/Saw blades",
        "Circular Saw Blade|Saw Blade",
        also="toothed cutting disc",
        brands="tools",
        price=(19, 0.4),
        varies=(BLADE_TEETH,),
        fixed=(BIT_MATERIAL,),
        points="for Plywood|Thin Kerf",
        related="circular_saw",
        facts="Expansion slots keep the plate flat when hot.|"
        "The thin kerf saves battery.|Leaves an edge that needs no sanding.",
    ),
    kind(
        "sander",
        "Tools/Power tools/Sanders",
        "Random Orbit Sander|Orbital Sander",
        also="wood smoothing machine",
        brands="tools",
        price=(66, 0.35),
        technical=True,
        varies=(DISC_INCHES,),
        fixed=(TOOL_COLOR,),
        points="with Dust Bag|Variable Speed",
        related="sanding_discs",
        facts="Leaves no swirl marks.|The sealed switch keeps dust out.|Six speeds, from paint removal to polishing.",
    ),
    kind(
        "sanding_discs",
        "Tools/Accessories/Abrasives",
        "Sanding Discs|Hook and Loop Sanding Discs",
        also="sandpaper rounds|abrasive paper",
        brands="tools",
        price=(14, 0.4),
        varies=(GRIT,),
        fixed=(DISC_INCHES,),
        points="Pack of 50|for Random Orbit Sander",
        related="sander",
        facts="Eight holes carry the dust away.|Ceramic grain outlasts plain oxide.|Sticks and peels off again and "
        "again.",
    ),
    kind(
        "screwdriver_set",
        "Tools/Hand tools/Screwdrivers",
        "Screwdriver Set",
        also="turnscrews|phillips and flathead",
        brands="tools",
        price=(26, 0.45),
        varies=(DRIVER_PIECES,),
        fixed=(MAGNETIC,),
        points="with Rack|for Electronics Repair",
        related="impact_driver tool_box",
        facts="Soft grips turn without slipping.|Tips are hardened and sandblasted.|From watch screws to deck screws.",
    ),
    kind(
        "wrench",
        "Tools/Hand tools/Wrenches",
        "Adjustable Wrench",
        also="spanner|shifting spanner",
        brands="tools",
        price=(18, 0.4),
        varies=(TOOL_LENGTH,),
        points="Chrome Finish|Wide Jaw",
        related="screwdriver_set tool_box",
        facts="The jaw opens wider than its size suggests.|A scale on the jaw helps to set it.|Forged in one piece.",
    ),
    kind(
        "claw_hammer",
        "Tools/Hand tools/Hammers",
        "Claw Hammer|Framing Hammer",
        also="nail driver|nail puller",
        brands="tools",
        price=(21, 0.4),
        varies=(HAMMER_OZ,),
        fixed=(MAGNETIC,),
        points="Fiberglass Handle",
        related="tool_box tape_measure",
        facts="The handle takes the sting out of each blow.|A groove holds the first "
        "nail for you.|The claw pulls bent nails cleanly.",
    ),
    kind(
        "tape_measure",
        "Tools/Hand tools/Measuring",
        "Tape Measure|Measuring Tape",
        also="retractable ruler",
        brands="tools",
        price=(13, 0.35),
        varies=(TAPE_FEET,),
        fixed=(MAGNETIC, TOOL_COLOR),
        points="Self Locking|Double Sided",
        related="claw_hammer tool_box",
        facts="Stands out nine feet before it bends.|Easy-read fractions to the eighth.|The brake stops the blade at a "
        "touch.",
    ),
    kind(
        "tool_box",
        "Tools/Accessories/Tool storage",
        "Tool Box|Rolling Tool Box",
        also="toolchest|mechanic's trunk",
        brands="tools",
        price=(48, 0.5),
        varies=(TOOL_COLOR,),
        fixed=(TOOL_LENGTH,),
        points="with Tray|Lockable",
        related="drill_bit_case screwdriver_set",
        facts="The tray lifts out for small parts.|Carries sixty pounds.|Seals against rain and sawdust.",
    ),
)


# English product types: clothing and outdoor gear.

WEAR = (
    kind(
        "running_shoes",
        "Clothing/Shoes/Running",
        "Running Shoes",
        also="sneakers|trainers|jogging footwear",
        brands="clothing",
        price=(92, 0.4),
        weight=2.2,
        varies=(SHOE_SIZE, COLOR),
        fixed=(GENDER,),
        points="Lightweight|for Road|Cushioned",
        related="hiking_boots shoe_laces socks",
        facts="Foam gives back every step.|The mesh breathes on hot days.|Rubber where you wear it most.|Wide at the "
        "toes.",
    ),
    kind(
        "hiking_boots",
        "Clothing/Shoes/Hiking",
        "Hiking Boots|Mid Hiking Boots",
        also="trekking footwear|trail walkers",
        brands="clothing",
        price=(128, 0.35),
        varies=(SHOE_SIZE,),
        fixed=(GENDER, WATERPROOF, HOME_COLOR),
        points="Ankle Support|Lug Sole",
        related="running_shoes socks shoe_laces",
        facts="Lugs bite into mud and scree.|A membrane keeps feet dry.|The toe cap takes the rocks.",
    ),
    kind(
        "shoe_laces",
        "Clothing/Shoes/Care",
        "Shoe Laces|Elastic Laces for Running Shoes",
        also="boot strings",
        brands="clothing",
        price=(7, 0.3),
        varies=(LACE_INCHES, COLOR),
        points="No Tie|2 Pairs",
        related="running_shoes hiking_boots",
        facts="Stay tied all day.|Cut to length, then clamp.|Bright in the dark.",
    ),
    kind(
        "tshirt",
        "Clothing/Tops/T-shirts",
        "T-Shirt|Crew Neck T-Shirt",
        also="casual tee|short sleeve top",
        brands="clothing",
        price=(19, 0.4),
        weight=1.5,
        varies=(CLOTHES_SIZE, COLOR),
        fixed=(GENDER, FABRIC),
        points="Heavyweight|Pre-Shrunk",
        related="hoodie",
        facts="Keeps its shape in the wash.|The collar does not curl.|No tag to itch.",
    ),
    kind(
        "hoodie",
        "Clothing/Tops/Hoodies",
        "Hoodie",
        also="hooded sweatshirt|hooded jumper",
        brands="clothing",
        price=(46, 0.4),
        weight=1.3,
        varies=(CLOTHES_SIZE, COLOR),
        fixed=(GENDER, HOODED_STYLE),
        points="with Pocket|Brushed Inside",
        related="tshirt rain_jacket",
        facts="Brushed inside, smooth outside.|A pocket for both hands.|Cords that stay in.",
    ),
    kind(
        "rain_jacket",
        "Clothing/Outerwear/Rain jackets",
        "Rain Jacket|Packable Rain Jacket",
        also="anorak|wet weather coat|cagoule",
        brands="clothing",
        price=(84, 0.45),
        varies=(CLOTHES_SIZE, COLOR),
        fixed=(GENDER,),
        points="with Hood|Breathable",
        related="hoodie gloves",
        facts="All seams are taped.|Packs into its own pocket.|Vents under the arms.",
    ),
    kind(
        "jeans",
        "Clothing/Bottoms/Jeans",
        "Jeans|Stretch Jeans",
        also="denim trousers|dungarees",
        brands="clothing",
        price=(58, 0.4),
        varies=(WAIST, COLOR),
        fixed=(GENDER, FIT),
        points="Five Pocket|Washed",
        related="tshirt hoodie",
        facts="Gives a little when you sit.|Rivets at every pocket.|Fades the way you wear it.",
    ),
    kind(
        "socks",
        "Clothing/Accessories/Socks",
        "Crew Socks|Hiking Socks",
        also="hosiery|ankle stockings",
        brands="clothing",
        price=(16, 0.35),
        varies=(PAIRS,),
        fixed=(COLOR, GENDER),
        points="Cushioned|for Running Shoes",
        related="running_shoes hiking_boots",
        facts="No seam at the toes.|Stay up without squeezing.|Wool keeps smells away.",
    ),
    kind(
        "gloves",
        "Clothing/Accessories/Gloves",
        "Winter Gloves|Thermal Gloves",
        also="mittens|hand warmers",
        brands="clothing",
        price=(25, 0.4),
        varies=(CLOTHES_SIZE,),
        fixed=(GLOVE_MATERIAL, TOUCHSCREEN, GENDER),
        points="with Long Cuff|Windproof",
        related="rain_jacket",
        facts="Warm down to ten below.|Long cuffs keep the snow out.|Grippy palms for the wheel.",
    ),
    kind(
        "tent",
        "Outdoor/Camping/Tents",
        "Camping Tent|Dome Tent",
        also="canvas shelter|pop up bivouac",
        brands="outdoor",
        price=(160, 0.5),
        weight=1.2,
        varies=(PERSONS, TOOL_COLOR),
        fixed=(WATERPROOF,),
        points="with Rainfly|Easy Setup|with Porch",
        related="tent_stakes sleeping_bag sleeping_pad",
        facts="Stands in four minutes.|Two doors, no climbing over.|Mesh above, bathtub floor below.",
    ),
    kind(
        "tent_stakes",
        "Outdoor/Camping/Accessories",
        "Tent Stakes|Camping Tent Stakes",
        also="guy line pegs|ground spikes",
        brands="outdoor",
        price=(17, 0.35),
        varies=(STAKE_COUNT,),
        fixed=(TOOL_LENGTH,),
        points="Aluminum|for Sand",
        related="tent",
        facts="Three edges hold in loose soil.|Cords pull them out.|Weigh next to nothing.",
    ),
    kind(
        "sleeping_bag",
        "Outdoor/Camping/Sleeping",
        "Sleeping Bag|Mummy Sleeping Bag",
        also="camp bedroll|quilted cocoon",
        brands="outdoor",
        price=(76, 0.45),
        varies=(BAG_TEMP,),
        fixed=(TOOL_COLOR, AGE_GROUP),
        points="with Compression Sack|Lightweight",
        related="sleeping_pad tent",
        facts="Two zippers, and neither bites.|Rolls to the size of a loaf.|The hood draws close on cold nights.",
    ),
    kind(
        "sleeping_pad",
        "Outdoor/Camping/Sleeping",
        "Sleeping Pad|Inflatable Sleeping Pad",
        also="camp mattress|foam ground mat",
        brands="outdoor",
        price=(49, 0.45),
        varies=(TOOL_COLOR,),
        fixed=(AGE_GROUP,),
        points="with Foot Pump|for Sleeping Bag",
        related="sleeping_bag tent",
        facts="Three inches between you and the roots.|Inflates with your foot.|Whisper-quiet when you turn.",
    ),
    kind(
        "backpack",
        "Outdoor/Bags/Backpacks",
        "Backpack|Hiking Backpack",
        also="rucksack|knapsack",
        brands="outdoor",
        price=(78, 0.5),
        weight=1.3,
        varies=(LITERS, COLOR),
        fixed=(WATERPROOF,),
        points="with Laptop Pocket|with Hip Belt",
        related="backpack_cover laptop_sleeve",
        facts="The belt carries the load.|Air flows behind your back.|Pockets you reach while walking.",
    ),
    kind(
        "backpack_cover",
        "Outdoor/Bags/Accessories",
        "Backpack Rain Cover|Waterproof Backpack Cover",
        also="rucksack storm shield",
        brands="outdoor",
        price=(14, 0.3),
        varies=(LITERS, COLOR),
        points="Reflective|with Pouch",
        related="backpack",
        facts="A cord keeps it on in a gale.|Folds to a fist.|Seen from afar.",
    ),
    kind(
        "headlamp",
        "Outdoor/Lights/Headlamps",
        "Headlamp|Running Headlamp",
        also="forehead torch|miner's torch",
        brands="outdoor",
        price=(32, 0.45),
        technical=True,
        varies=(LUMENS,),
        fixed=(RECHARGEABLE, WATERPROOF),
        points="Red Light Mode|Motion Sensor",
        related="flashlight",
        facts="Weighs less than an egg.|Red light spares night eyes.|Wave a hand to switch it.",
    ),
    kind(
        "flashlight",
        "Outdoor/Lights/Flashlights",
        "LED Flashlight|Tactical Flashlight",
        also="torch|handheld lantern",
        brands="outdoor",
        price=(29, 0.5),
        technical=True,
        varies=(LUMENS,),
        fixed=(RECHARGEABLE, WATERPROOF),
        points="Zoomable|with Clip",
        related="headlamp",
        facts="Throws a beam two hundred yards.|Five modes, one button.|Milled from one bar of aluminum.",
    ),
    kind(
        "bike_helmet",
        "Outdoor/Cycling/Helmets",
        "Bike Helmet|Road Bike Helmet",
        also="bicycle hard hat|cyclist head protection",
        brands="outdoor",
        price=(64, 0.45),
        varies=(HELMET_SIZE, COLOR),
        fixed=(AGE_GROUP,),
        points="with Visor|with Rear Light",
        related="bike_light",
        facts="A dial fits it to your head.|Eighteen vents.|The liner slides to soften a fall.",
    ),
    kind(
        "bike_light",
        "Outdoor/Cycling/Lights",
        "Bike Light Set|Bike Headlight",
        also="bicycle lamp|cyclist beacon",
        brands="outdoor",
        price=(27, 0.4),
        technical=True,
        varies=(LUMENS,),
        fixed=(RECHARGEABLE, WATERPROOF),
        points="Front and Rear|USB-C",
        related="bike_helmet headlamp",
        facts="Clips on without tools.|Seen from half a mile.|Dims itself when you stop.",
    ),
    kind(
        "water_bottle",
        "Outdoor/Bottles/Water bottles",
        "Water Bottle|Sports Water Bottle",
        also="hydration canteen|drinking jug",
        brands="outdoor",
        price=(22, 0.4),
        varies=(FLASK_OZ, COLOR),
        fixed=(LEAKPROOF, DISHWASHER_SAFE),
        points="with Straw|Insulated",
        related="vacuum_flask travel_mug",
        facts="Fits the cage on your bike.|The straw flips up with a thumb.|No taste, no sweat.",
    ),
)


# What English-speaking shoppers want without naming one product type: broad words, gifts and uses.

GIFTS = (
    want("gift for a gardener", "pruners pot bird_feeder", "hose_nozzle garden_hose gloves"),
    want(
        "present for dad who likes diy",
        "cordless_drill screwdriver_set tool_box impact_driver",
        "drill_bits tape_measure",
    ),
    want("birthday gift for a coffee lover", "coffee_maker travel_mug coffee_mug", "coffee_filters kettle"),
    want("gifts for someone who loves hiking", "backpack hiking_boots headlamp", "socks water_bottle rain_jacket"),
    want("gift for a runner", "running_shoes earbuds headlamp", "socks water_bottle tshirt"),
    want("christmas present for a toddler", "building_bricks plush_bear", "puzzle"),
    want("gift idea for a 10 year old boy", "rc_car building_bricks board_game", "puzzle bike_helmet"),
    want("something nice for a new puppy owner", "dog_bed dog_leash", "dog_food"),
    want("gift for cat person", "cat_tree", "cat_litter"),
    want("gift for a home cook", "chef_knife frying_pan cutting_board", "saucepan blender knife_sharpener"),
    want("gift for a writer", "notebook pens", "desk_lamp sticky_notes"),
    want("housewarming gift for the kitchen", "kettle coffee_mug cutting_board food_containers", "blender"),
    want("present for a cyclist", "bike_helmet bike_light", "water_bottle gloves"),
    want("gift for music fan", "headphones earbuds speaker", "earbud_case"),
    want("gift for a gamer", "keyboard mouse headphones", "mouse_pad office_chair"),
    want("stocking filler for women", "lip_balm gloves socks", "coffee_mug"),
    want("gift for a frequent traveler", "power_bank headphones backpack", "laptop_sleeve vacuum_flask"),
    want("gift for the whole family game night", "board_game puzzle", "building_bricks"),
    want("pamper gift for mom", "moisturizer hair_dryer", "shampoo conditioner lip_balm"),
    want("leaving gift for a colleague who camps", "tent sleeping_bag headlamp", "sleeping_pad vacuum_flask"),
)

USES = (
    want("something to keep coffee hot", "travel_mug vacuum_flask", "coffee_mug coffee_maker"),
    want("see in the dark while walking the dog", "headlamp flashlight", "dog_leash bike_light"),
    want("charge my phone on the go", "power_bank", "usb_cable wall_charger"),
    want("listen to music at the gym", "earbuds", "headphones"),
    want("block out noise on a plane", "headphones earbuds", "earbud_case"),
    want("make holes in a concrete wall", "hammer_drill", "cordless_drill drill_bits"),
    want("hang a shelf", "cordless_drill hammer_drill", "drill_bits screwdriver_set bookshelf"),
    want("smooth a wooden table", "sander sanding_discs", ""),
    want("cut plywood sheets", "circular_saw", "saw_blade"),
    want("stay dry in heavy rain", "rain_jacket", "hiking_boots backpack_cover"),
    want("keep my backpack dry", "backpack_cover", "backpack"),
    want("sleep outside in winter", "sleeping_bag", "sleeping_pad tent"),
    want("dull blade fix", "knife_sharpener", "chef_knife"),
    want("fry eggs without sticking", "frying_pan", "saucepan pan_lid"),
    want("boil water for tea", "kettle", "saucepan"),
    want("make smoothies at home", "blender", ""),
    want("take lunch to work", "food_containers", "vacuum_flask"),
    want("protect furniture from cat scratches", "cat_tree sofa_cover", "sofa"),
    want("hide stains on an old couch", "sofa_cover", "sofa"),
    want("water the lawn", "garden_hose hose_nozzle", "mower"),
    want("cut the grass", "mower", "pruners"),
    want("trim roses", "pruners", ""),
    want("back pain sitting all day", "office_chair", ""),
    want("read in bed at night", "desk_lamp", "headlamp"),
    want("keep skin from burning at the beach", "sunscreen", "lip_balm moisturizer"),
    want("fix cracked lips", "lip_balm", "moisturizer"),
    want("dry hair fast", "hair_dryer", ""),
    want("quiet a crying baby with something soft", "plush_bear", ""),
    want("rainy afternoon with kids", "board_game puzzle building_bricks", "rc_car"),
    want("be seen by cars when riding", "bike_light", "bike_helmet"),
    want("protect head on a bicycle", "bike_helmet", ""),
    want("walk puppy without it running away", "dog_leash", ""),
    want("stop smell from kitty box", "cat_litter", ""),
    want("feed wild birds on balcony", "bird_feeder", ""),
    want("carry laptop without scratching it", "laptop_sleeve", "backpack"),
    want("type faster with clicky feel", "keyboard", ""),
    want("bind a stack of paper together", "stapler", "staples"),
    want("remember things on my monitor", "sticky_notes", "notebook"),
    want("measure a room", "tape_measure", ""),
    want("keep hands warm skiing", "gloves", "socks"),
    want("loosen a rusty nut", "wrench", "impact_driver"),
    want("drink enough water during sport", "water_bottle", ""),
)

BROAD = (
    want("drill", "cordless_drill hammer_drill", "drill_bits drill_bit_case tool_battery"),
    want("mug", "travel_mug coffee_mug", "vacuum_flask"),
    want("knife", "chef_knife", "knife_sharpener cutting_board"),
    want("shoes", "running_shoes hiking_boots", "shoe_laces socks"),
    want("charger", "wall_charger", "power_bank usb_cable"),
    want("saw", "circular_saw", "saw_blade"),
    want("pan", "frying_pan saucepan", "pan_lid"),
    want("hose", "garden_hose", "hose_nozzle"),
    want("battery", "tool_battery power_bank", "cordless_drill"),
    want("helmet", "bike_helmet", "bike_light"),
    want("camping gear", "tent sleeping_bag sleeping_pad tent_stakes", "headlamp backpack vacuum_flask"),
    want("dog stuff", "dog_bed dog_leash dog_food", ""),
    want("skin care", "moisturizer sunscreen lip_balm", "shampoo"),
    want("lights for the bike", "bike_light", "bike_helmet headlamp"),
    want("power tools", "cordless_drill hammer_drill impact_driver circular_saw sander", "tool_battery drill_bits"),
)


# The English half of the demo store: brands, series, title layouts, and how shoppers put their wishes.

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
    types=(TOOLS + KITCHEN + ELECTRONICS + WEAR + FAMILY + HOUSE),
    brands=MappingProxyType(_BRANDS),
    series=tuple(_SERIES.split()),
    shades=MappingProxyType(_SHADES),
    styles=_STYLES,
    closings=MappingProxyType(_CLOSINGS),
    labels=MappingProxyType(_LABELS),
    ceilings=_CEILINGS,
    broad=BROAD,
    gifts=GIFTS,
    uses=USES,
)
