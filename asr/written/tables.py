"""Words that the rules of the written form know."""

from __future__ import annotations

from asr.written.words import word_set

MONTHS = {
    month.lower(): month
    for month in (
        [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ]
    )
}
WEEKDAYS = {day.lower(): day for day in ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]}

# Measures: what is written for one, and whether that is a sign (which takes digits always) or the word itself.
MEASURES: dict[tuple[str, ...], str] = {
    ("kilometers", "per", "hour"): "km/h",
    ("kilometres", "per", "hour"): "km/h",
    ("kilometers", "an", "hour"): "km/h",
    ("kilometres", "an", "hour"): "km/h",
    ("miles", "per", "hour"): "mph",
    ("miles", "an", "hour"): "mph",
    ("meters", "per", "second"): "m/s",
    ("metres", "per", "second"): "m/s",
    ("kilowatt", "hours"): "kWh",
    ("kilowatt", "hour"): "kWh",
    ("megawatt", "hours"): "MWh",
    ("gigawatt", "hours"): "GWh",
    ("degrees", "celsius"): "°C",
    ("degrees", "centigrade"): "°C",
    ("degrees", "fahrenheit"): "°F",
    ("basis", "points"): "basis points",
    ("basis", "point"): "basis point",
    ("percentage", "points"): "percentage points",
    ("percentage", "point"): "percentage point",
    ("square", "feet"): "square feet",
    ("square", "miles"): "square miles",
    ("square", "meters"): "m²",
    ("square", "metres"): "m²",
    ("square", "kilometers"): "km²",
    ("square", "kilometres"): "km²",
    ("cubic", "meters"): "m³",
    ("cubic", "metres"): "m³",
    ("cubic", "feet"): "cubic feet",
    ("light", "years"): "light years",
}
_SIGNS = {
    "kilometer kilometers kilometre kilometres": "km",
    "centimeter centimeters centimetre centimetres": "cm",
    "millimeter millimeters millimetre millimetres": "mm",
    "meters metres": "m",
    "kilogram kilograms kilo kilos": "kg",
    "milligram milligrams": "mg",
    "grams": "g",
    "milliliter milliliters millilitre millilitres": "mL",
    "hertz": "Hz",
    "kilohertz": "kHz",
    "megahertz": "MHz",
    "gigahertz": "GHz",
    "kilobyte kilobytes": "KB",
    "megabyte megabytes": "MB",
    "gigabyte gigabytes": "GB",
    "terabyte terabytes": "TB",
    "megabits": "Mbit",
    "gigabits": "Gbit",
    "kilowatt kilowatts": "kW",
    "megawatt megawatts": "MW",
    "gigawatt gigawatts": "GW",
    "milliseconds millisecond": "ms",
    "decibels": "dB",
}
MEASURES.update({(word,): sign for words, sign in _SIGNS.items() for word in words.split()})
MEASURES.update(
    {
        (word,): word
        for word in [
            "miles",
            "mile",
            "feet",
            "foot",
            "inches",
            "inch",
            "yards",
            "yard",
            "pounds",
            "pound",
            "ounces",
            "ounce",
            "tons",
            "ton",
            "tonnes",
            "acres",
            "acre",
            "hectares",
            "gallons",
            "gallon",
            "liters",
            "litres",
            "liter",
            "litre",
            "degrees",
            "watts",
            "volts",
            "amps",
            "megapixels",
            "calories",
            "barrels",
            "bushels",
            "knots",
            "carats",
        ]
    }
)

DURATIONS = word_set(
    "second seconds minute minutes hour hours day days week weeks month months year years decade decades "
    "night nights century centuries"
)
SINGULAR_UNITS = word_set(
    "minute hour day week month year second dollar cent mile foot inch pound ton yard point percent meter "
    "kilometer megawatt kilowatt acre story page man person piece star"
)
CURRENCIES = {
    "dollars": "$",
    "dollar": "$",
    "euros": "€",
    "euro": "€",
}
PENNIES = {"cents", "cent", "pence"}

# Before a number, these make it a name or a place in an order: *page five*.
LABELS = word_set(
    "version chapter page room section figure gate flight platform route highway interstate apartment suite "
    "extension channel slide phase volume grade item row seat building season episode paragraph article "
    "appendix exhibit question bus track pier dock terminal apollo level tier stage type zone district ward "
    "precinct psalm sonnet"
)
LABELS_OF_LONG = LABELS | word_set("number code pin box line area zip account card id serial unit block lot")

TIME_CUES = {"at", "until", "till", "around", "by"}
YEAR_CUES = (
    word_set(
        "in since of by until before after from during year years early late mid fiscal calendar end ended ending "
        "circa spring "
        "summer fall autumn winter back through and between for to quarter half"
    )
    | MONTHS.keys()
)

STREETS = word_set("street avenue road boulevard lane drive parkway court terrace highway")
DIRECTIONS = {"north", "south", "east", "west"}

# Before *one*, these make it a pronoun: *this one*.
DETERMINERS = word_set(
    "this that which no each every any some another the only other first last next second third new old good "
    "bad big small little right wrong best great nice better same such what whichever either neither"
)
SUBJECTS = word_set("i you he she it we they that which who this there what one")

# Words that are no one's name and no street's, for rules that ask whether a name follows.
COMMON = word_set(
    "a an the and or but nor so if of in on at to from for with by about as than then that this these those "
    "there here is am are was were be been being has have had having do does did doing done will would can "
    "could shall should may might must not no yes i you he she it we they me him her us them my your his its "
    "our their who whom whose what which when where why how all any both each few more most other some such "
    "only own same too very just also now said says say told tells asked asks came comes come went goes go "
    "got gets get gave gives made makes knew knows thought thinks took takes called calls looked looks saw "
    "sees put puts turned turns began wants wanted needs needed one two three four five six seven eight nine "
    "ten first second third hundred thousand million people percent dollars dollar cents into onto over under "
    "after before until since while because during without within between through against up down out off "
    "back away again ever never always often still yet already perhaps maybe please thing things time times "
    "year years day days week weeks month months hour hours minute minutes way ways lane mile dirt long point "
    "man men woman women however visit visits appointment office shall sir madam well oh okay um uh i'm i've "
    "i'll i'd you're he's she's it's that's don't didn't doesn't isn't wasn't wouldn't couldn't won't can't "
    "who's what's there's let let's seems seemed recommended prescribed examined replied answered cried "
    "smiled nodded laughed shook laid stood sat stepped found felt left held kept turned entered continued "
    "added observed advised"
)
