"""The language of a title: by its script, by words and endings that tell, and by lingua where those disagree.

Built for precision, for a wrong language makes a wrong finding and a wrong filter: what nothing speaks for, model
numbers and names of brands above all, has no language. docs/cleaning.md says how often it is right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from retrieval.text.analysis import HAN

if TYPE_CHECKING:
    from lingua import LanguageDetector


# The language that a script gives away: Chinese, Japanese, Korean, and those that share their letters with few.

_LATIN = re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]")
_HAN = re.compile(f"[{HAN}]")
_KANA = re.compile("[\u3041-\u309f\u30a1-\u30fa\uff66-\uff9d]")
_SCRIPTS = {
    "ko": "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3",
    "el": "\u0370-\u03ff\u1f00-\u1fff",
    "he": "\u0590-\u05ff",
    "th": "\u0e00-\u0e7f",
    "ka": "\u10a0-\u10ff",
    "hy": "\u0530-\u058f",
    "bn": "\u0980-\u09ff",
    "ta": "\u0b80-\u0bff",
    "te": "\u0c00-\u0c7f",
}
_SCRIPT_OF = {language: re.compile(f"[{letters}]") for language, letters in _SCRIPTS.items()}
_CYRILLIC = re.compile("[\u0400-\u04ff]")
_ARABIC = re.compile("[\u0620-\u06ff]")
_DEVANAGARI = re.compile("[\u0900-\u097f]")
# Letters that one language of a script has and its neighbours have not; Persian's are shared with Urdu.
_UKRAINIAN, _RUSSIAN = re.compile("[іїєґІЇЄҐ]"), re.compile("[ыэёЫЭЁ]")
_NEITHER = re.compile("[ўЎјљњћђџЈЉЊЋЂЏѓќ]")
_PERSIAN, _URDU = re.compile("[پچژگ]"), re.compile("[ٹڈڑںے]")
_FEWEST = 4
"""A script decides from a quarter of the Latin letters on: brands and models are written in Latin everywhere."""


def script_language(text: str) -> str | None:
    """ISO 639-1 of the language that the script of a text belongs to; None for Latin script.

    "" where the script is another one but does not say which language (Bulgarian or Russian, Hindi or Marathi), or
    where there is too little of it beside Latin letters.
    """
    latin = len(_LATIN.findall(text))
    kana, han = len(_KANA.findall(text)), len(_HAN.findall(text))
    if han or kana:
        return _if_enough("ja" if kana else "zh", 2 * (han + kana), latin)  # a character holds what two letters do
    for script, decide in ((_CYRILLIC, _of_cyrillic), (_ARABIC, _of_arabic), (_DEVANAGARI, None)):
        letters = len(script.findall(text))
        if letters:
            return _if_enough(decide(text), letters, latin) if decide else ""
    for language, script in _SCRIPT_OF.items():
        letters = len(script.findall(text))
        if letters > 1:  # one alone is a symbol: Ω, µ, π
            return _if_enough(language, letters, latin)
    return None


def _if_enough(language: str, letters: int, latin: int) -> str:
    return language if letters * _FEWEST >= latin else ""


def _of_cyrillic(text: str) -> str:
    if _NEITHER.search(text):
        return ""
    ukrainian, russian = _UKRAINIAN.search(text), _RUSSIAN.search(text)
    if bool(ukrainian) == bool(russian):
        return ""
    return "uk" if ukrainian else "ru"


def _of_arabic(text: str) -> str:
    if _URDU.search(text):
        return "ur"
    return "fa" if _PERSIAN.search(text) else "ar"


# Words, endings and letters that tell a product title's language.
#
# What several of the languages have stands in each of their lists and speaks for all of them. Words that shops in every
# country use ("set", "pro", "wireless", "notebook") stand in none.

FUNCTION_WORDS: Mapping[str, str] = {
    "en": "the and with for of from by your you this that is are not on without only each these which has",
    "de": """der die das und mit für von zu zum zur bei ohne ist sind ein eine einen einem einer eines auf aus im am
        auch nicht oder nach den dem des bis über unter inkl stück wie als wird sich ihre sehr""",
    "fr": """le la les des du et avec pour sans dans sur de un une en au aux est sont cette qui que ou par pas votre
        vos son ses chez""",
    "es": "el la los las del con para sin en de un una por es son su sus al que más como este esta desde muy se lo",
    "it": """il lo la gli le di con senza da un una del della dei delle degli al alla allo nel nella su sono che più
        questo questa dal dalla""",
    "nl": "de het een en met voor van zonder op bij uit naar ook niet of dit is zijn aan om wordt deze je uw tot",
    "pt": "da dos das com para sem em na nos nas de um uma por são que ou ao mais seu sua pelo pela você até",
    "pl": "na dla bez ze od nie jest oraz lub po przez pod nad się jak są który",
    "sv": "och med för till utan en ett är på från som det den inte eller att vid din ditt samt upp",
    "other": """og til af uden eller ved ikke nebo není jako ja kanssa ilman sekä és vagy nélkül cu și din pentru fără
        ve için ile veya olan""",
}
"""The words between the nouns. `other` has those of neighbours (Danish, Czech, Finnish, Hungarian, Romanian, Turkish),
which keep a title from being taken for one of ours."""

SHOP_WORDS: Mapping[str, str] = {
    "en": """black white red blue green grey gray yellow brown pink purple gold clear dark light brushed stainless
        steel wood wooden glass leather cotton plastic aluminum aluminium brass bronze nickel chrome ceramic
        paper women men kids girls boys children adult cordless drill saw screwdriver hammer wrench pliers nails
        screws screw bolt pipe valve faucet sink toilet shower bathroom kitchen door window wall floor ceiling
        tiles paint brush bulb lights lighting fan heater cooler refrigerator washer dryer dishwasher vacuum
        cleaner chair desk shelf cabinet drawer mattress pillow blanket curtain rug garden lawn mower fence
        outdoor indoor plant seeds tree shoes shirt pants dress jacket gloves socks hat bag wallet watch necklace
        earrings book books toy toys battery batteries charger printer keyboard mouse headphones speakers screen
        printing cartridge replacement interior exterior bracket holder cover piece pieces inch feet gallon size
        new professional heavy duty waterproof adjustable assembled mounted finish license year years warranty
        service storage drive hard network switch phone wire wired camera projector reader ink compatible supply
        key keys tool tools square round flat left right single double coating trim solid hinge knob handle
        vanity carpet laminate vinyl hardwood engineered satin gloss primer sealer stain concrete roofing
        insulation gutter vent ductless water sprayer sprinkler ladder extension cord outlet receptacle breaker
        wallpaper mirror frame blinds shade shades patio umbrella cushion grill propane snow shovel rake pruner
        trimmer blower chainsaw processor networking patch head sheets feeder tray speaker channels calculator
        printers flooring moulding molding fitting elbow coupling connector bushing thread threaded brick stone
        marble granite porcelain oak maple cherry walnut pine cedar bamboo mahogany espresso almond ivory bisque
        cream chestnut charcoal navy burgundy teal bright weathered matte glossy finished unfinished pretreated
        galvanized insulated reinforced adhesive caulk glue sealant spray wipes detergent soap towel towels sheet
        pillows throw rod rods hooks hook basket bins organizer closet shelving shelves drawers dresser
        nightstand bed bench stool couch ottoman recliner cushions dining coffee maker blender toaster kettle
        pans skillet knife knives spoon plate plates cup cups jar bottle food pet dog cat squirrel treats leash
        litter grass weed killer fertilizer soil potted planter bushes shrub flower flowers bulbs ground tote
        stakes edging paver pavers ball bearing wheel wheels tire tires bike bicycle helmet hitch towing engine
        belt blade blades bit bits sander grinder sanding disc grit saws nailer staple stapler staples torque
        socket sockets ratchet hex level measure rope wires strap straps locks latch doorbell alarm smoke
        detector dimmer pendant chandelier sconce flush flood spotlight lantern candle candles string lamps
        incandescent fluorescent equivalent warm cool daylight cooktop microwave freezer ice cubic load front
        bottom undermount vessel pedestal tub whirlpool handheld handles spout showerhead drain stopper flapper
        seat elongated toilets plunger softener purifier humidifier dehumidifier furnace conditioner air register
        grille duct damper pleated household thermal shingles flashing siding gutters downspout screens storm
        entry slab hollow panels primed prehung sliding windows opener hanging picture signs sticker decal
        removable rolls roll yards rugs carpeting runner mats doormat tread treads stair stairs nosing baseboard
        rail ladders scaffold worklight flashlight headlight jump starter gauge clamp clamps vise sawhorse
        workbench chest cart wagon truck dolly wheelbarrow shoveled hoe bow ax axe splitter lopper shears hedge
        edger tiller mulching bagger riding tractor mowers spreader sprayers tarp covers gazebo canopy swing
        hammock wicker rocking folding sleeping bags backpack luggage suitcase purse necklaces bracelet sneakers
        boots slippers heels sleeve long short skirt sweater hoodie coat coats vest suit tie scarf underwear
        swimsuit pajamas costume toddler newborn infant diaper stroller crib nursery puzzle dolls plush games
        card cards birthday wrap ribbon envelopes pens pencil pencils marker markers crayons scissors folder
        folders binder stamp calendar vitamin supplement capsules shampoo lotion skin hair face nail makeup
        lipstick eyeshadow fragrance toothbrush toothpaste razor shaving surge protector extender mounting
        enclosure headset earbuds tripod docking thin rechargeable disposable reusable stackable foldable
        collapsible retractable dimmable programmable decorative high low speed built style large small medium
        tall deep thick foot ounce pound pounds gallons quart ounces includes included easy used weather
        resistant proof compression inlet angle male female straight bend check relief shut gate copper metal
        plain routed corner picket lattice railing baluster decking joist hanger appliance pull pulls knobs pivot
        inflatable christmas holiday wreath garland ornament halloween pumpkin snowman lighted thanksgiving
        easter house respirator goggles safety glasses earplugs work worker table silver rubber fiber fibre optic
        interface shielded snagless pages pixels ports external internal dual spare part parts consumable profile
        container waste eyepiece remote control watering synthetic fire pit waterproofing sample hands holds rare
        earth mighty color colour colors stove dishes""",
    "de": """schwarz weiß weiss rot blau grün grau gelb braun silber golden dunkel hell edelstahl stahl holz leder
        baumwolle kunststoff glas messing keramik gummi papier damen herren kinder mädchen jungen akku
        bohrmaschine bohrschrauber säge schraubendreher zange schrauben schraube nägel rohr ventil schlauch
        wasserhahn waschbecken dusche bad badezimmer küche tür fenster wand boden decke fliesen farbe pinsel
        lampe leuchte heizung lüfter ofen backofen kühlschrank waschmaschine trockner geschirrspüler staubsauger
        tisch stuhl schreibtisch regal schrank schublade matratze kissen bettwäsche vorhang teppich garten
        rasenmäher zaun pflanze samen baum schuhe hemd kleid jacke handschuhe socken hut tasche uhr kette
        ohrringe buch bücher spielzeug spiel batterie batterien ladegerät kabel drucker tastatur maus kopfhörer
        lautsprecher bildschirm patrone druckerpatrone ersatz halterung halter abdeckung hülle schutzhülle stück
        größe breite höhe länge neu wasserdicht verstellbar tragbar passend geeignet deutsch netzteil speicher
        festplatte schalter steckdose verlängerung wasser werkzeug koffer spiegel rahmen bettdecke topf pfanne
        messer löffel gabel teller becher tasse flasche dose kaffee tee wolle seide gestreift rund eckig
        elektrisch sitz fahrrad reifen auto zubehör netz strom licht eiche massiv""",
    "fr": """noir noire blanc blanche rouge bleu bleue vert verte gris grise jaune marron rose argent doré foncé clair
        acier inoxydable inox bois cuir coton plastique verre laiton céramique caoutchouc papier femme femmes
        homme hommes enfant enfants fille garçon bébé perceuse visseuse scie tournevis marteau clé pince vis
        clous tuyau vanne robinet évier lavabo toilettes douche salle bain cuisine porte fenêtre mur sol plafond
        carrelage peinture pinceau lampe ampoule éclairage ventilateur chauffage four réfrigérateur frigo lave
        linge vaisselle aspirateur chaise bureau étagère armoire tiroir matelas oreiller couverture rideau tapis
        jardin tondeuse clôture plante graines arbre chaussures chemise pantalon robe veste gants chaussettes
        chapeau sac montre bague collier boucles livre livres jouet jeu pile piles chargeur câble imprimante
        clavier souris casque écouteurs écran cartouche encre remplacement support housse étui lot pièces pièce
        taille largeur hauteur longueur neuf neuve étanche réglable fil alimentation mémoire disque dur
        interrupteur prise rallonge eau outil outils miroir cadre casserole poêle couteau cuillère assiette
        bouteille café thé laine soie vélo pneu voiture accessoire lumière batterie perforateur serviette voyage""",
    "es": """negro negra blanco blanca rojo roja azul verde gris amarillo marrón rosa plata dorado oscuro claro acero
        inoxidable madera cuero piel algodón plástico vidrio cristal latón cerámica goma papel mujer mujeres
        hombre hombres niño niña niños niñas bebé taladro atornillador sierra destornillador martillo llave
        alicates tornillos tornillo clavos tubo válvula manguera grifo fregadero lavabo inodoro ducha baño cocina
        puerta ventana pared suelo techo azulejos pintura brocha lámpara bombilla luz iluminación ventilador
        calefactor horno nevera frigorífico lavadora secadora lavavajillas aspiradora mesa silla escritorio
        estante armario cajón colchón almohada manta cortina alfombra jardín cortacésped valla planta semillas
        árbol zapatos zapatillas camisa camiseta pantalón pantalones vestido chaqueta guantes calcetines sombrero
        bolso bolsa reloj anillo pendientes libro libros juguete juego pila pilas batería cargador impresora
        teclado ratón auriculares altavoz pantalla cartucho tinta recambio soporte funda piezas pieza tamaño
        ancho alto largo nuevo nueva impermeable ajustable portátil inalámbrico inalámbrica eléctrico eléctrica
        fuente alimentación memoria disco duro interruptor enchufe agua herramienta herramientas espejo marco
        sartén olla cuchillo cuchara plato botella café lana seda bicicleta neumático coche accesorio paquete
        unidades percutor""",
    "it": """nero nera bianco bianca rosso rossa blu verde grigio giallo marrone rosa argento dorato scuro chiaro
        acciaio inossidabile legno pelle cuoio cotone plastica vetro ottone ceramica gomma carta donna donne uomo
        uomini bambino bambina bambini neonato trapano avvitatore sega cacciavite martello chiave pinza viti vite
        chiodi tubo valvola rubinetto lavello lavabo doccia bagno cucina porta finestra parete pavimento soffitto
        piastrelle vernice pennello lampada lampadina luce illuminazione ventilatore stufa forno frigorifero
        lavatrice asciugatrice lavastoviglie aspirapolvere tavolo sedia scrivania scaffale armadio cassetto
        materasso cuscino coperta tenda tappeto giardino tagliaerba recinzione pianta semi albero scarpe camicia
        maglietta pantaloni vestito giacca guanti calze calzini cappello borsa orologio anello collana orecchini
        libro libri giocattolo gioco pila batteria batterie caricabatterie cavo stampante tastiera cuffie
        altoparlante schermo cartuccia inchiostro ricambio supporto custodia pezzi pezzo taglia larghezza altezza
        lunghezza nuovo nuova impermeabile regolabile portatile elettrico elettrica alimentatore memoria disco
        rigido interruttore presa prolunga acqua attrezzo utensili specchio cornice padella pentola coltello
        cucchiaio piatto bottiglia caffè lana seta bicicletta pneumatico accessorio confezione percussione""",
    "nl": """zwart zwarte wit witte rood rode blauw blauwe groen groene grijs grijze geel bruin roze zilver goud
        donker licht roestvrij staal rvs hout houten leer leren katoen kunststof glas messing keramiek papier
        dames heren vrouwen mannen kinderen meisjes jongens accu boormachine schroefmachine zaag schroevendraaier
        hamer sleutel tang schroeven schroef spijkers buis kraan slang wastafel douche badkamer keuken deur raam
        wand muur vloer plafond tegels verf kwast verlichting ventilator verwarming koelkast wasmachine droger
        vaatwasser stofzuiger tafel stoel bureau kast lade matras kussen dekbed deken gordijn tapijt vloerkleed
        tuin grasmaaier hek zaden boom schoenen overhemd broek jurk jas handschoenen sokken muts hoed tas horloge
        ketting oorbellen boek boeken speelgoed spel batterij batterijen oplader kabel toetsenbord muis
        koptelefoon luidspreker scherm inktpatroon vervanging houder hoes beschermhoes stuks stuk maat breedte
        hoogte lengte nieuw nieuwe waterdicht verstelbaar draagbaar draadloze draadloos elektrisch elektrische
        voeding geheugen harde schijf schakelaar stopcontact verlengsnoer gereedschap spiegel lijst pan mes lepel
        bord fles koffie thee wol zijde fiets band""",
    "pt": """preto preta branco branca vermelho vermelha azul verde cinza cinzento amarelo marrom castanho rosa prata
        dourado escuro claro aço inoxidável inox madeira couro algodão plástico vidro latão cerâmica borracha
        papel mulher feminino feminina homem masculino masculina menino menina criança infantil bebê bebé
        furadeira berbequim parafusadeira aparafusadora serra martelo chave alicate parafusos parafuso pregos
        tubo válvula mangueira torneira pia lavatório banheiro chuveiro cozinha porta janela parede chão piso
        teto azulejo tinta pincel lâmpada luminária luz iluminação ventilador aquecedor forno geladeira
        frigorífico máquina lavar secar aspirador mesa cadeira escrivaninha prateleira armário gaveta colchão
        travesseiro almofada cobertor cortina tapete jardim cortador cerca planta sementes árvore sapatos tênis
        camisa camiseta calça calças vestido jaqueta casaco luvas meias chapéu bolsa relógio anel colar brincos
        livro livros brinquedo jogo pilha pilhas bateria carregador cabo impressora teclado fone auscultadores
        tela ecrã cartucho substituição suporte capa peças peça tamanho largura altura comprimento novo nova
        impermeável ajustável portátil elétrico elétrica fonte memória disco rígido interruptor tomada extensão
        água ferramenta ferramentas espelho moldura frigideira panela faca colher prato garrafa lã seda bicicleta
        pneu acessório pacote unidades""",
    "pl": """czarny czarna czarne biały biała białe czerwony czerwona niebieski niebieska zielony zielona szary szara
        żółty brązowy różowy srebrny złoty ciemny jasny stal nierdzewna drewno drewniany skóra skórzany bawełna
        plastik szkło mosiądz ceramiczny guma papier damska damskie damski męska męskie męski dziecięcy dzieci
        dziewczynka chłopiec wiertarka wkrętarka piła śrubokręt młotek klucz kombinerki śruby gwoździe rura zawór
        wąż bateria umywalka prysznic łazienka kuchnia drzwi okno ściana podłoga sufit płytki farba pędzel lampa
        żarówka oświetlenie wentylator grzejnik piekarnik lodówka pralka suszarka zmywarka odkurzacz stół krzesło
        biurko półka szafa szuflada materac poduszka kołdra koc zasłona dywan ogród ogrodowy kosiarka ogrodzenie
        roślina nasiona buty koszula koszulka spodnie sukienka kurtka rękawice rękawiczki skarpety czapka torba
        torebka zegarek pierścionek naszyjnik kolczyki książka zabawka gra ładowarka kabel przewód drukarka
        klawiatura mysz słuchawki głośnik ekran tusz wymiana uchwyt etui pokrowiec sztuk szt rozmiar szerokość
        wysokość długość nowy nowa wodoodporny regulowany przenośny bezprzewodowy bezprzewodowa elektryczny
        elektryczna zasilacz pamięć dysk twardy przełącznik gniazdo przedłużacz woda narzędzia lustro rama
        patelnia garnek nóż łyżka talerz butelka kawa herbata wełna rower opona akumulatorowa udarowa zestaw""",
    "sv": """svart vit vitt vita röd rött blå blått grön grönt grå gul brun rosa guld mörk ljus rostfri rostfritt stål
        trä läder bomull plast mässing keramik gummi papper dam damer herr herrar barn flickor pojkar borrmaskin
        skruvdragare såg skruvmejsel hammare tång skruv skruvar spik rör ventil slang kran handfat dusch badrum
        kök dörr fönster vägg golv tak kakel färg pensel lampa belysning fläkt värmare ugn kylskåp tvättmaskin
        torktumlare diskmaskin dammsugare bord stol skrivbord hylla skåp låda madrass kudde täcke filt gardin
        matta trädgård gräsklippare staket växt frön träd skor skjorta byxor klänning jacka handskar strumpor
        mössa hatt väska klocka halsband örhängen bok böcker leksak leksaker spel batteri batterier laddare
        skrivare tangentbord hörlurar högtalare skärm bläckpatron ersättning hållare fodral skydd delar storlek
        bredd höjd längd ny nytt vattentät justerbar bärbar trådlös trådlösa elektrisk nätaggregat minne hårddisk
        strömbrytare eluttag förlängning vatten verktyg spegel ram stekpanna kastrull kniv sked gaffel tallrik
        flaska kaffe ull siden cykel däck tillbehör förpackning slagborrmaskin""",
}
"""What is sold, of what, in which colour."""

HEADS: Mapping[str, str] = {
    "de": """stuhl lampe regal schrank tisch jacke hose tasche hülle schlauch halterung gerät maschine schrauber
        drucker decke kissen messer pfanne leuchte ständer helm zubehör werkzeug koffer schere wagen bett laken
        spiegel schuhe hemd kleid brille flasche becher dose matte bürste kasten korb rahmen leiter schalter
        sessel bezug zange säge""",
    "nl": """stoel kast tafel broek tas hoesje slang houder apparaat kussen deken wagen schoenen jurk fles beker klok
        spiegel laken schakelaar stoelen doos borstel""",
    "sv": """stol hylla skåp bord jacka byxor väska fodral slang hållare skrivare täcke kudde kniv panna lampa hjälm
        vagn säng lakan spegel skor skjorta flaska mugg klocka stege brytare""",
}
"""Nouns at the end of compounds: what "Campingstuhl" and "campingstol" are."""

ENDINGS: Mapping[str, str] = {
    "en": "ing less proof ness",
    "de": "barer bares keit heit liche licher liches ungen schutz sätze",
    "fr": "euse euses elle elles ette ettes ique iques ière ières",
    "es": "ción ciones dora doras dores ería ador adora illo illa",
    "pt": "ção ções ável íveis ível eira eiras eiro inho inha",
    "it": "zione zioni trice tore tori evole evoli abile abili etto etta",
    "nl": "baar bare achtig lijk lijke tjes",
    "pl": "owy owa owe owych acz arka arki ość ony ona ską ski ska skie czny czna czne",
    "sv": "bart bara ligt liga orna erna",
}
"""Endings of longer words."""

LETTERS: Mapping[str, str] = {
    "de": "ß ü ä ö",
    "sv": "ä ö å",
    "es": "ñ é á í ó ú",
    "pt": "ã õ ç ê é á í ó ú ô",
    "fr": "ç ê è à é œ î ô û",
    "pl": "ł ą ę ś ź ż ń ć ó",
    "it": "è à ù ò ì",
}
"""Letters that these languages use and few others do."""


_SLOTS = tuple(FUNCTION_WORDS)
_OTHER = "other"
LATIN_LANGUAGES = tuple(slot for slot in _SLOTS if slot != _OTHER)
"""The languages in Latin script that are told apart (ISO 639-1)."""
_BITS = 8
_COUNT = (1 << _BITS) - 1
_MOST_LETTERS = 200
"""Longer texts are read to here: a language shows within a few words, and its votes must fit their bits."""
_MARGIN = 2
_SHORTEST_COMPOUND = 8
_SURE = 0.5
# Letters that none of our languages has, but Nordic, Czech, Slovak, Croatian, Baltic, Hungarian, Romanian, Turkish and
# Vietnamese: such a title is in a language that nobody here can tell.
_ELSEWHERE = re.compile("[æøðþğışřěůžščťďľĺŕőűțșăđģķļņėāēīūơư\u1ea0-\u1ef9]")
_PLAIN_WORD = re.compile(r"(?<![\w./-])[^\W\d_]{3,}(?![\w./])")
_BETWEEN = str.maketrans(dict.fromkeys(",;:()[]{}!?\"'’“”„«»+&|", " "))


def detect(titles: Sequence[str]) -> list[str]:
    """The language of each title as ISO 639-1, "" where nothing sure can be said.

    The answer for a title depends on that title alone.
    """
    return [_language(title) for title in titles]


def _language(title: str) -> str:
    text = title[:_MOST_LETTERS]
    if not text.isascii():
        by_script = script_language(text)
        if by_script is not None:
            return by_script
    votes = _votes(text.lower())
    if not votes:
        return ""
    clear, candidates = _decide(votes)
    return clear if clear or not candidates else _by_lingua(text, candidates)


def _packed(lists: Mapping[str, str], weight: int) -> dict[str, int]:
    """Each word to its votes: `_BITS` bits a language, all in one integer, so that adding integers adds up votes."""
    votes: dict[str, int] = {}
    for slot, words in lists.items():
        for word in words.split():
            votes[word] = votes.get(word, 0) | weight << _SLOTS.index(slot) * _BITS
    return votes


_WORD_VOTES = _packed(SHOP_WORDS, 1) | _packed(FUNCTION_WORDS, 2)
_LETTER_VOTES = _packed(LETTERS, 1)
_ENDING_VOTES = _packed(ENDINGS, 1) | _packed(HEADS, 1)
_ENDING_LENGTHS = tuple(sorted({len(ending) for ending in _ENDING_VOTES}, reverse=True))


def _votes(text: str) -> int:
    """What the different words and letters of a lower-case text say; 0 for nothing, or for letters from elsewhere."""
    votes = 0
    if not text.isascii():
        if _ELSEWHERE.search(text):
            return 0
        votes = sum(_LETTER_VOTES[letter] for letter in set(text) & _LETTER_VOTES.keys())
    for word in set(text.translate(_BETWEEN).split()):
        if word in _WORD_VOTES:
            votes += _WORD_VOTES[word]
        elif len(word) >= _SHORTEST_COMPOUND:
            votes += _ending_votes(word)
    return votes


@lru_cache(maxsize=1 << 16)
def _ending_votes(word: str) -> int:
    endings = (word[-length:] for length in _ENDING_LENGTHS)
    return next((_ENDING_VOTES[ending] for ending in endings if ending in _ENDING_VOTES), 0)


@lru_cache(maxsize=1 << 14)
def _decide(votes: int) -> tuple[str, frozenset[str]]:
    """The language that wins clearly, or "" and those that lingua may choose from (none: it need not be asked).

    One English word alone decides nothing: product lines have English names in every country.
    """
    counts = {slot: votes >> place * _BITS & _COUNT for place, slot in enumerate(_SLOTS)}
    ordered = sorted(counts.values())
    best = frozenset(slot for slot, count in counts.items() if count == ordered[-1])
    if _OTHER in best or (best == {"en"} and ordered[-1] == 1):
        return "", frozenset()
    if ordered[-1] >= ordered[-2] + _MARGIN:
        return next(iter(best)), frozenset()
    return "", best


def _by_lingua(text: str, candidates: frozenset[str]) -> str:
    """The candidate that lingua's trigrams find by themselves, over all our languages, with a clear lead; else ""."""
    words = [word for word in _PLAIN_WORD.findall(text) if not word.isupper() or text.isupper()]
    if len(words) < 2:
        return ""
    first, second, *_ = _detector().compute_language_confidence_values(" ".join(words))
    found = first.language.iso_code_639_1.name.lower()
    return found if found in candidates and first.value - second.value >= _SURE else ""


@cache
def _detector() -> LanguageDetector:
    """Trigrams only: the larger models take 250 MB and four times as long, and the words have had their say before."""
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    codes = [getattr(IsoCode639_1, code.upper()) for code in LATIN_LANGUAGES]
    return LanguageDetectorBuilder.from_iso_codes_639_1(*codes).with_low_accuracy_mode().build()
