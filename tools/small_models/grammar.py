"""Sentences for the small models: a random grammar of parallel English and Italian.

Every sentence is a template whose slots are drawn independently and uniformly, so that the
words already said tell little about the next one: what comes next has to be heard. Each entry
carries both languages, so one corpus serves recognition and translation.

    python -m small_models.grammar          prints a few sentences
"""

import random
import re
from typing import NamedTuple


class Noun(NamedTuple):
    """A countable noun; Italian needs the gender for articles and adjectives."""

    english: str
    english_plural: str
    italian: str
    italian_plural: str
    gender: str  # "m" or "f"


class Adjective(NamedTuple):
    english: str
    masculine: str
    feminine: str
    masculine_plural: str
    feminine_plural: str

    def italian(self, gender, plural):
        if plural:
            return self.masculine_plural if gender == "m" else self.feminine_plural
        return self.masculine if gender == "m" else self.feminine


class Pair(NamedTuple):
    english: str
    italian: str


def pairs(text):
    """Reads `english = italian` lines."""
    return [Pair(*(side.strip() for side in line.split("="))) for line in text.strip().splitlines()]


def nouns(text):
    """Reads `english, plural = italian, plural, gender` lines."""
    entries = []
    for english, italian in pairs(text):
        singular, plural = english.split(", ")
        entries.append(Noun(singular, plural, *italian.split(", ")))
    return entries


NAMES = """anna david laura peter maria simon helen oscar julia martin emma victor sarah thomas
olivia henry nadia george sophie walter irene felix clara hugo diana robert monica albert linda
samuel""".split()

CITIES = pairs("""
rome = roma
milan = milano
turin = torino
florence = firenze
venice = venezia
naples = napoli
london = londra
paris = parigi
berlin = berlino
vienna = vienna
lisbon = lisbona
madrid = madrid
dublin = dublino
athens = atene
geneva = ginevra
oslo = oslo
boston = boston
chicago = chicago
toronto = toronto
sydney = sydney
tokyo = tokyo
moscow = mosca
budapest = budapest
barcelona = barcellona
copenhagen = copenaghen
edinburgh = edimburgo
""")

WEEKDAYS = pairs("""
monday = lunedì
tuesday = martedì
wednesday = mercoledì
thursday = giovedì
friday = venerdì
saturday = sabato
sunday = domenica
""")

MONTHS = pairs("""
january = gennaio
february = febbraio
march = marzo
april = aprile
may = maggio
june = giugno
july = luglio
august = agosto
september = settembre
october = ottobre
november = novembre
december = dicembre
""")

OBJECTS = nouns("""
apple, apples = mela, mele, f
chair, chairs = sedia, sedie, f
table, tables = tavolo, tavoli, m
book, books = libro, libri, m
bottle, bottles = bottiglia, bottiglie, f
candle, candles = candela, candele, f
window, windows = finestra, finestre, f
hat, hats = cappello, cappelli, m
jacket, jackets = giacca, giacche, f
shirt, shirts = camicia, camicie, f
bicycle, bicycles = bicicletta, biciclette, f
ticket, tickets = biglietto, biglietti, m
letter, letters = lettera, lettere, f
box, boxes = scatola, scatole, f
basket, baskets = cestino, cestini, m
lamp, lamps = lampada, lampade, f
mirror, mirrors = specchio, specchi, m
pencil, pencils = matita, matite, f
umbrella, umbrellas = ombrello, ombrelli, m
guitar, guitars = chitarra, chitarre, f
camera, cameras = macchina fotografica, macchine fotografiche, f
blanket, blankets = coperta, coperte, f
spoon, spoons = cucchiaio, cucchiai, m
plate, plates = piatto, piatti, m
map, maps = mappa, mappe, f
suitcase, suitcases = valigia, valigie, f
lemon, lemons = limone, limoni, m
orange, oranges = arancia, arance, f
potato, potatoes = patata, patate, f
onion, onions = cipolla, cipolle, f
cake, cakes = torta, torte, f
carpet, carpets = tappeto, tappeti, m
button, buttons = bottone, bottoni, m
watch, watches = orologio, orologi, m
""")

ANIMALS = nouns("""
dog, dogs = cane, cani, m
cat, cats = gatto, gatti, m
horse, horses = cavallo, cavalli, m
rabbit, rabbits = coniglio, conigli, m
goat, goats = capra, capre, f
duck, ducks = anatra, anatre, f
spider, spiders = ragno, ragni, m
turtle, turtles = tartaruga, tartarughe, f
monkey, monkeys = scimmia, scimmie, f
lion, lions = leone, leoni, m
zebra, zebras = zebra, zebre, f
squirrel, squirrels = scoiattolo, scoiattoli, m
""")

PEOPLE = nouns("""
doctor, doctors = medico, medici, m
teacher, teachers = insegnante, insegnanti, m
farmer, farmers = contadino, contadini, m
painter, painters = pittore, pittori, m
student, students = studente, studenti, m
lawyer, lawyers = avvocato, avvocati, m
baker, bakers = panettiere, panettieri, m
singer, singers = cantante, cantanti, f
driver, drivers = autista, autisti, m
nurse, nurses = infermiera, infermiere, f
actress, actresses = attrice, attrici, f
neighbour, neighbours = vicino, vicini, m
""")

PLACES = nouns("""
station, stations = stazione, stazioni, f
museum, museums = museo, musei, m
market, markets = mercato, mercati, m
library, libraries = biblioteca, biblioteche, f
hospital, hospitals = ospedale, ospedali, m
airport, airports = aeroporto, aeroporti, m
school, schools = scuola, scuole, f
church, churches = chiesa, chiese, f
bridge, bridges = ponte, ponti, m
theatre, theatres = teatro, teatri, m
garden, gardens = giardino, giardini, m
kitchen, kitchens = cucina, cucine, f
castle, castles = castello, castelli, m
beach, beaches = spiaggia, spiagge, f
bakery, bakeries = panetteria, panetterie, f
hotel, hotels = albergo, alberghi, m
office, offices = ufficio, uffici, m
river, rivers = fiume, fiumi, m
stadium, stadiums = stadio, stadi, m
""")

VEHICLES = nouns("""
train, trains = treno, treni, m
bus, buses = autobus, autobus, m
ferry, ferries = traghetto, traghetti, m
plane, planes = aereo, aerei, m
tram, trams = tram, tram, m
taxi, taxis = taxi, taxi, m
""")

COLOURS = [
    Adjective("green", "verde", "verde", "verdi", "verdi"),
    Adjective("yellow", "giallo", "gialla", "gialli", "gialle"),
    Adjective("black", "nero", "nera", "neri", "nere"),
    Adjective("white", "bianco", "bianca", "bianchi", "bianche"),
    Adjective("purple", "viola", "viola", "viola", "viola"),
    Adjective("brown", "marrone", "marrone", "marroni", "marroni"),
    Adjective("pink", "rosa", "rosa", "rosa", "rosa"),
    Adjective("grey", "grigio", "grigia", "grigi", "grigie"),
    Adjective("golden", "dorato", "dorata", "dorati", "dorate"),
    Adjective("tiny", "minuscolo", "minuscola", "minuscoli", "minuscole"),
    Adjective("heavy", "pesante", "pesante", "pesanti", "pesanti"),
    Adjective("broken", "rotto", "rotta", "rotti", "rotte"),
    Adjective("expensive", "costoso", "costosa", "costosi", "costose"),
    Adjective("round", "rotondo", "rotonda", "rotondi", "rotonde"),
    Adjective("wooden", "di legno", "di legno", "di legno", "di legno"),
    Adjective("dusty", "polveroso", "polverosa", "polverosi", "polverose"),
]

BUYING = pairs("""
bought = ha comprato
sold = ha venduto
found = ha trovato
lost = ha perso
painted = ha dipinto
forgot = ha dimenticato
carried = ha portato
ordered = ha ordinato
borrowed = ha preso in prestito
cleaned = ha pulito
counted = ha contato
dropped = ha lasciato cadere
repaired = ha riparato
wanted = ha voluto
""")

SPEAKING = pairs("""
called = ha chiamato
visited = ha visitato
thanked = ha ringraziato
followed = ha seguito
invited = ha invitato
married = ha sposato
helped = ha aiutato
remembered = ha ricordato
greeted = ha salutato
""")

WEATHER = pairs("""
rain = pioggia
snow = neve
fog = nebbia
wind = vento
sunshine = sole
thunder = tuoni
ice = ghiaccio
frost = brina
heat = caldo
clouds = nuvole
showers = rovesci
storms = temporali
""")

WHEN = pairs("""
today = oggi
tomorrow = domani
tonight = stasera
this morning = stamattina
every evening = ogni sera
next week = la prossima settimana
at noon = a mezzogiorno
after dinner = dopo cena
before breakfast = prima di colazione
""")

ARRIVAL = pairs("""
leaves = parte
arrives = arriva
stops = si ferma
returns = ritorna
""")

UNITS_EN = "one two three four five six seven eight nine".split()
TENS_EN = "twenty thirty forty fifty sixty seventy eighty ninety".split()
TEENS_EN = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
UNITS_IT = "uno due tre quattro cinque sei sette otto nove".split()
TENS_IT = "venti trenta quaranta cinquanta sessanta settanta ottanta novanta".split()
TEENS_IT = "dieci undici dodici tredici quattordici quindici sedici diciassette diciotto diciannove".split()


def number(value):
    """A number from 1 to 99 in words."""
    if value < 10:
        return Pair(UNITS_EN[value - 1], UNITS_IT[value - 1])
    if value < 20:
        return Pair(TEENS_EN[value - 10], TEENS_IT[value - 10])
    tens, unit = divmod(value, 10)
    english, italian = TENS_EN[tens - 2], TENS_IT[tens - 2]
    if unit:
        english += " " + UNITS_EN[unit - 1]
        # The tens lose their vowel before uno and otto; tre takes an accent at the end.
        stem = italian[:-1] if unit in (1, 8) else italian
        italian = stem + ("tré" if unit == 3 else UNITS_IT[unit - 1])
    return Pair(english, italian)


def article(word, gender, plural=False):
    """The Italian definite article with its word; an elided article is written attached."""
    vowel = word[0] in "aeiou"
    impure = bool(re.match(r"s[bcdfglmnpqrtv]|z|ps|gn|x|y", word))
    if plural:
        if gender == "f":
            return f"le {word}"
        return f"gli {word}" if vowel or impure else f"i {word}"
    if vowel:
        return f"l'{word}"
    if gender == "f":
        return f"la {word}"
    return f"lo {word}" if impure else f"il {word}"


def contracted(preposition, word, gender):
    """`a` or `da` merged with the definite article: alla stazione, all'ospedale."""
    with_article = article(word, gender)
    if with_article.startswith("il "):
        return f"{preposition}l {word}"
    return f"{preposition}l{with_article}"


def indefinite(noun):
    """English a/an with its noun."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def some_things(draw):
    """A counted and described thing: `seven green chairs`."""
    count = number(draw.randint(2, 99))
    thing, colour = draw.choice(OBJECTS + ANIMALS), draw.choice(COLOURS)
    return Pair(
        f"{count.english} {colour.english} {thing.english_plural}",
        f"{count.italian} {thing.italian_plural} {colour.italian(thing.gender, True)}",
    )


def clock(draw):
    hour = number(draw.randint(1, 12))
    it = "l'una" if hour.english == "one" else f"le {hour.italian}"
    minutes, minutes_it = draw.choice([
        ("", ""), ("thirty", "e trenta"), ("fifteen", "e quindici"), ("forty five", "e quarantacinque"),
        ("twenty", "e venti"), ("ten", "e dieci"), ("fifty", "e cinquanta"),
    ])
    return Pair(f"{hour.english} {minutes}", f"{it} {minutes_it}")


def at_clock(italian_time):
    """`alle sette`, `all'una`."""
    return "al" + ("l'" + italian_time[2:] if italian_time.startswith("l'") else italian_time)


def date(draw):
    day, month, weekday = number(draw.randint(2, 31)), draw.choice(MONTHS), draw.choice(WEEKDAYS)
    return Pair(
        f"{weekday.english} {day.english} {month.english}",
        f"{weekday.italian} {day.italian} {month.italian}",
    )


def someone(draw):
    """A person, by name or by trade, as a subject or an object."""
    if draw.random() < 0.6:
        name = draw.choice(NAMES)
        return Pair(name, name)
    person = draw.choice(PEOPLE)
    return Pair(f"the {person.english}", article(person.italian, person.gender))


def journey(draw):
    vehicle, verb = draw.choice(VEHICLES), draw.choice(ARRIVAL)
    start, end, time = draw.choice(CITIES), draw.choice(CITIES), clock(draw)
    return Pair(
        f"the {vehicle.english} from {start.english} to {end.english} {verb.english} at {time.english}",
        f"{article(vehicle.italian, 'm')} da {start.italian} a {end.italian} {verb.italian} "
        f"{at_clock(time.italian)}",
    )


def purchase(draw):
    who, verb, things = someone(draw), draw.choice(BUYING), some_things(draw)
    city = draw.choice(CITIES)
    return Pair(
        f"{who.english} {verb.english} {things.english} in {city.english}",
        f"{who.italian} {verb.italian} {things.italian} a {city.italian}",
    )


def meeting(draw):
    who, verb, whom, day = someone(draw), draw.choice(SPEAKING), someone(draw), date(draw)
    return Pair(
        f"{who.english} {verb.english} {whom.english} on {day.english}",
        f"{who.italian} {verb.italian} {whom.italian} {day.italian}",
    )


def forecast(draw):
    city, other, when = draw.choice(CITIES), draw.choice(CITIES), draw.choice(WHEN)
    weather, second = draw.choice(WEATHER), draw.choice(WEATHER)
    day = draw.choice(WEEKDAYS)
    return draw.choice([
        Pair(
            f"{weather.english} in {city.english} {when.english} and {second.english} in {other.english} on {day.english}",
            f"{weather.italian} a {city.italian} {when.italian} e {second.italian} a {other.italian} {day.italian}",
        ),
        Pair(
            f"{when.english} {weather.english} and {second.english} in {city.english}",
            f"{when.italian} {weather.italian} e {second.italian} a {city.italian}",
        ),
    ])


def place_of_things(draw):
    place, things, who = draw.choice(PLACES), some_things(draw), someone(draw)
    return Pair(
        f"{who.english} left {things.english} near the {place.english}",
        f"{who.italian} ha lasciato {things.italian} vicino {contracted('a', place.italian, place.gender)}",
    )


def sight(draw):
    who, animal, place = someone(draw), draw.choice(ANIMALS), draw.choice(PLACES)
    colour, when = draw.choice(COLOURS), draw.choice(WHEN)
    return Pair(
        f"{who.english} saw the {colour.english} {animal.english} behind the {place.english} {when.english}",
        f"{who.italian} ha visto {article(animal.italian, animal.gender)} {colour.italian(animal.gender, False)} "
        f"dietro {article(place.italian, place.gender)} {when.italian}",
    )


def walk(draw):
    who, start, end, time = someone(draw), draw.choice(PLACES), draw.choice(PLACES), clock(draw)
    return Pair(
        f"{who.english} walks from the {start.english} to the {end.english} at {time.english}",
        f"{who.italian} cammina {contracted('da', start.italian, start.gender)} "
        f"{contracted('a', end.italian, end.gender)} {at_clock(time.italian)}",
    )


def opening(draw):
    place, city, day, other, time = (
        draw.choice(PLACES), draw.choice(CITIES), draw.choice(WEEKDAYS), draw.choice(WEEKDAYS), clock(draw),
    )
    verb = draw.choice([Pair("opens", "apre"), Pair("closes", "chiude")])
    return draw.choice([
        Pair(
            f"the {place.english} in {city.english} {verb.english} on {day.english} at {time.english}",
            f"{article(place.italian, place.gender)} a {city.italian} {verb.italian} {day.italian} {at_clock(time.italian)}",
        ),
        Pair(
            f"on {day.english} and {other.english} the {place.english} {verb.english} at {time.english}",
            f"{day.italian} e {other.italian} {article(place.italian, place.gender)} {verb.italian} {at_clock(time.italian)}",
        ),
    ])


def price(draw):
    first, second, cost = draw.choice(OBJECTS), draw.choice(OBJECTS), number(draw.randint(2, 99))
    colour = draw.choice(COLOURS)
    return Pair(
        f"{indefinite(first.english)} and the {colour.english} {second.english} cost {cost.english} euros",
        f"{indefinite_italian(first)} e {adjectival(second, colour)} costano {cost.italian} euro",
    )


def indefinite_italian(noun):
    if noun.gender == "f":
        return ("un'" if noun.italian[0] in "aeiou" else "una ") + noun.italian
    impure = article(noun.italian, "m").startswith("lo ")
    return ("uno " if impure else "un ") + noun.italian


def adjectival(noun, adjective):
    return f"{article(noun.italian, noun.gender)} {adjective.italian(noun.gender, False)}"


def shopping_list(draw):
    first, second = some_things(draw), some_things(draw)
    return Pair(f"{first.english} and {second.english}", f"{first.italian} e {second.italian}")


TEMPLATES = [
    journey, purchase, meeting, forecast, place_of_things, sight, walk, opening, price, shopping_list,
]


def normalise(text):
    """Lower case, single spaces, and of the punctuation only the Italian apostrophe."""
    return " ".join(re.sub(r"[^\w' ]", " ", text.lower()).split())


def sentence(draw):
    """One sentence in both languages; `draw` is a `random.Random`."""
    english, italian = draw.choice(TEMPLATES)(draw)
    return Pair(normalise(english), normalise(italian))


def distinct_sentences(count, seed, excluded=()):
    """`count` sentences, no two with the same English or Italian text, none in `excluded`."""
    draw, found = random.Random(seed), []
    seen = {text for pair in excluded for text in pair}
    while len(found) < count:
        pair = sentence(draw)
        if pair.english not in seen and pair.italian not in seen:
            seen.update(pair)
            found.append(pair)
    return found


if __name__ == "__main__":
    for english, italian in distinct_sentences(20, seed=0):
        print(f"{english}\n    {italian}")
