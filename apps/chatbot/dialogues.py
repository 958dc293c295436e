"""Generated dialogues whose held-out part has combinations that training does not contain.

A family is a function of a few slots (a person, a digit, an object ...). Training contains every
value of every slot, but some *pairs* of values are in the held-out part only. The answer to the
nearest training question is almost always wrong there: a model must read the slots and combine
them. Standard library only.
"""

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

__all__ = ["FAMILIES", "Dialogue", "Family", "generate"]

MEN = ("Tom", "Ben", "Leo", "Tim", "Jack", "Fred", "Carl", "Hugo")
WOMEN = ("Ann", "Mia", "Eva", "Amy", "Lucy", "Emma", "Kate", "Nora")
PEOPLE = MEN + WOMEN
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
VERBS = ("comes", "rests", "cooks", "swims", "sings", "reads", "works", "plays", "runs", "draws")
THINGS = (
    "pens",
    "figs",
    "cups",
    "hats",
    "eggs",
    "nuts",
    "maps",
    "keys",
    "bags",
    "toys",
    "jars",
    "pots",
)
CITIES = (
    "Rome",
    "Oslo",
    "Lima",
    "Bern",
    "Nice",
    "Cork",
    "York",
    "Riga",
    "Lyon",
    "Bonn",
    "Graz",
    "Pisa",
)
WORDS = tuple(
    "cat dog sun map pen cup hat bed box key egg ice jam owl fox leaf moon star fish bird tree "
    "milk rice cake lamp door ship rain snow wind king gold lake hill frog bear duck lion wolf "
    "rose bread chair table plant house river stone cloud apple horse mouse grape lemon piano "
    "queen train tiger zebra beach music".split()
)
COLOURS = {
    "snow": "white",
    "milk": "white",
    "grass": "green",
    "peas": "green",
    "coal": "black",
    "tar": "black",
    "lemons": "yellow",
    "corn": "yellow",
    "rubies": "red",
    "ketchup": "red",
    "carrots": "orange",
    "plums": "purple",
    "mud": "brown",
    "cocoa": "brown",
    "pigs": "pink",
    "ash": "grey",
}
BELONGINGS = ("box", "bag", "car", "room", "shop", "house", "boat", "desk", "coat", "cup")
OPPOSITES = {
    "full": "empty",
    "new": "old",
    "big": "small",
    "clean": "dirty",
    "wet": "dry",
    "hot": "cold",
    "dark": "light",
    "wide": "narrow",
    "open": "shut",
    "safe": "risky",
    "cheap": "costly",
    "high": "low",
    "long": "short",
    "ugly": "pretty",
}
KIN = {
    "child": ("son", "daughter"),
    "parent": ("father", "mother"),
    "sibling": ("brother", "sister"),
    "elder": ("uncle", "aunt"),
    "younger": ("nephew", "niece"),
}
INVERSE_KIN = {
    "child": "parent",
    "parent": "child",
    "sibling": "sibling",
    "elder": "younger",
    "younger": "elder",
}
VEHICLES = ("bus", "tram", "boat", "taxi", "van", "ship", "jet", "cab")
MINUTES = ("05", "10", "15", "20", "25", "30", "35", "40", "45", "50", "55")
NUMERALS = dict(zip("23456789", "两三四五六七八九"))
PAINTS = {
    "red": "红",
    "black": "黑",
    "white": "白",
    "yellow": "黄",
    "green": "绿",
    "blue": "蓝",
    "grey": "灰",
    "big": "大",
    "small": "小",
}
NOUNS = {
    "cups": "个杯子",
    "cats": "只猫",
    "dogs": "只狗",
    "birds": "只鸟",
    "flowers": "朵花",
    "books": "本书",
    "cars": "辆车",
    "trees": "棵树",
    "hats": "顶帽子",
    "pens": "支笔",
    "boats": "条船",
    "chairs": "把椅子",
}
ZH_PEOPLE = tuple("小明 小红 小华 小刚 小丽 小军 小芳 小强 小云 小兰 小林 小文".split())
ZH_THINGS = tuple(  # the measure word comes first
    "个苹果 个梨 本书 支笔 朵花 颗糖 张票 条鱼 只鸡 把伞 块饼 个碗".split()
)
ZH_SIGNS = "花山猫水火月云鸟树石风鱼"


class Dialogue(NamedTuple):
    """One question with its only answer; `slots` are the values it was made of."""

    family: str
    question: str
    answer: str
    slots: tuple[str, ...]


class Family(NamedTuple):
    """The dialogues of a family.

    slots: name -> the values it takes; in the order of `Dialogue.slots`.
    held: the slots whose joint values are held out.
    facts: groups of slots whose combination must be memorised (3 and 4 make 7), so training must
        contain each combination that is tested.
    say: slot values by name -> (question, answer), or None for invalid values.
    """

    name: str
    slots: Mapping[str, tuple[str, ...]]
    held: tuple[str, ...]
    facts: tuple[tuple[str, ...], ...]
    say: Callable[..., tuple[str, str] | None]

    def dialogues(self) -> Iterator[Dialogue]:
        """All dialogues of the family, in a fixed order."""
        for values in itertools.product(*self.slots.values()):
            said = self.say(**dict(zip(self.slots, values)))
            if said:
                yield Dialogue(self.name, *said, values)

    def pick(self, dialogue: Dialogue, names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """The named slots of a dialogue: ((name, value), ...)."""
        values = dict(zip(self.slots, dialogue.slots))
        return tuple((name, values[name]) for name in names)

    def known(self, dialogue: Dialogue) -> set[tuple[tuple[str, str], ...]]:
        """What training must contain: each slot value, and each fact."""
        alone = tuple((name,) for name in self.slots)
        return {self.pick(dialogue, names) for names in alone + self.facts}


FAMILIES: dict[str, Family] = {}


def generate(
    seed: int = 0, per_family: int = 600, held_out: float = 0.1
) -> tuple[list[Dialogue], list[Dialogue]]:
    """Training dialogues, and dialogues with combinations of slots that they do not contain.

    The same arguments give the same lists in every process. A family with fewer than `per_family`
    dialogues gives all of them.

    Args:
        seed: selects the dialogues and the held-out combinations.
        per_family: dialogues of each family, both parts together.
        held_out: share of the dialogues, and of the combinations, held out; 0 <= share < 1.

    Returns:
        (train, held_out), each shuffled.

    Raises:
        ValueError: `per_family` below 1, or `held_out` outside [0, 1).

    >>> train, held = generate(seed=1, per_family=100)
    >>> len(train) == 90 * len(FAMILIES), len(held) == 10 * len(FAMILIES)
    (True, True)
    >>> FAMILIES["spell"].say(word="cat", person="Ann")
    ('Spell cat for Ann.', 'Ann: c-a-t')
    """
    if per_family < 1:
        raise ValueError(f"per_family must be at least 1. Received: per_family={per_family}.")
    if not 0 <= held_out < 1:
        raise ValueError(
            f"held_out must be a share of at least 0 and below 1. Received: held_out={held_out}."
        )
    train, held = [], []
    for family in FAMILIES.values():
        # A string seeds by its bytes, independent of PYTHONHASHSEED.
        shown, kept = _split(family, random.Random(f"{seed} {family.name}"), per_family, held_out)
        train += shown
        held += kept
    shuffle = random.Random(seed).shuffle
    shuffle(train)
    shuffle(held)
    return train, held


def _split(family, rng, count, share):
    everything = list(family.dialogues())
    rng.shuffle(everything)
    pairs = sorted({family.pick(d, family.held) for d in everything})
    apart = set(rng.sample(pairs, round(share * len(pairs))))
    kept = [d for d in everything if family.pick(d, family.held) in apart]
    free = [d for d in everything if family.pick(d, family.held) not in apart]
    held_count = round(share * count)
    train = _news_first(family, free)[: count - held_count]
    known = set().union(*(family.known(d) for d in train))
    return train, [d for d in kept if family.known(d) <= known][:held_count]


def _news_first(family, dialogues):
    """First those with a new value or fact, then the rest, each in the given order."""
    known, news, rest = set(), [], []
    for dialogue in dialogues:
        (rest if family.known(dialogue) <= known else news).append(dialogue)
        known |= family.known(dialogue)
    return news + rest


def _family(held, facts=(), **slots):
    def register(say):
        name = say.__name__
        values = {slot: tuple(words) for slot, words in slots.items()}
        FAMILIES[name] = Family(name, values, held, facts, say)
        return say

    return register


@_family(
    held=("a", "thing"),
    facts=(("a", "b"),),
    person=PEOPLE,
    a="23456789",
    b="12345678",
    thing=THINGS,
)
def addition(person, a, b, thing):
    total = int(a) + int(b)
    if total <= 10:
        return f"{person} had {a} {thing} and got {b} more.", f"{a}+{b}={total} {thing}"


@_family(held=("person", "day"), facts=(("n", "day"),), person=PEOPLE, verb=VERBS, n="23", day=DAYS)
def weekday(person, verb, n, day):
    later = DAYS[(DAYS.index(day) + int(n)) % 7]
    return f"{person} {verb} {n} days after {day}. When?", f"{person} {verb} on {later}."


@_family(held=("first", "second"), person=PEOPLE, first=COLOURS, second=COLOURS)
def colour(person, first, second):
    if COLOURS[first] != COLOURS[second]:
        return (
            f"{person} draws {first} and {second}. Colours?",
            f"{person}: {COLOURS[first]} and {COLOURS[second]}",
        )


@_family(held=("person", "goal"), person=PEOPLE, start=CITIES, goal=CITIES)
def place(person, start, goal):
    if start != goal:
        return f"{person} flew from {start} to {goal}. Where now?", f"{person} is in {goal}."


@_family(held=("word", "person"), word=WORDS, person=PEOPLE)
def spell(word, person):
    return f"Spell {word} for {person}.", f"{person}: {'-'.join(word)}"


@_family(
    held=("first", "a"),
    facts=(("a", "b"),),
    first=PEOPLE,
    a="123456789",
    second=PEOPLE,
    b="123456789",
)
def older(first, a, second, b):
    if first != second and a != b:
        (low, _), (high, name) = sorted([(a, first), (b, second)])
        return (
            f"{first} is {a}, {second} is {b}. Who is older?",
            f"{name} is older: {high} > {low}.",
        )


@_family(held=("thing", "quality"), person=PEOPLE, thing=BELONGINGS, quality=OPPOSITES)
def opposite(person, thing, quality):
    return (
        f"{person}'s {thing} is {quality}. Say the opposite.",
        f"{person}'s {thing} is {OPPOSITES[quality]}.",
    )


@_family(held=("person", "other"), facts=(("other", "kin"),), person=PEOPLE, kin=KIN, other=PEOPLE)
def kinship(person, kin, other):
    if person != other:
        word = KIN[kin][person in WOMEN]
        back = KIN[INVERSE_KIN[kin]][other in WOMEN]
        return f"{person} is {other}'s {word}. And {other}?", f"{other} is {person}'s {back}."


@_family(
    held=("hour", "minute"),
    facts=(("hour", "late"),),
    hour="123456789",
    minute=MINUTES,
    vehicle=VEHICLES,
    late="23",
)
def clock(hour, minute, vehicle, late):
    return (
        f"The {hour}:{minute} {vehicle} is {late} hours late. When?",
        f"The {vehicle} comes at {int(hour) + int(late)}:{minute}.",
    )


@_family(held=("paint", "noun"), target=("Chinese", "英语"), n=NUMERALS, paint=PAINTS, noun=NOUNS)
def translation(target, n, paint, noun):
    english = f"{n} {paint} {noun}"
    chinese = NUMERALS[n] + NOUNS[noun][0] + PAINTS[paint] + NOUNS[noun][1:]
    if target == "Chinese":
        return f"Say {english} in Chinese.", chinese
    return f"{chinese}用英语怎么说？", english


@_family(
    held=("a", "thing"),
    facts=(("a", "b"),),
    person=ZH_PEOPLE,
    a="23456789",
    b="12345678",
    thing=ZH_THINGS,
)
def zh_subtraction(person, a, b, thing):
    left, measure = int(a) - int(b), thing[0]
    if left > 0:
        return (
            f"{person}有{a}{thing}，送走{b}{measure}，还剩几{measure}？",
            f"{a}-{b}={left}，剩{left}{thing}。",
        )


@_family(
    held=("second", "thing"),
    first=ZH_PEOPLE,
    deed=("送给", "拿走"),
    second=ZH_PEOPLE,
    thing=ZH_THINGS,
)
def zh_owner(first, deed, second, thing):
    if first != second:
        owner, other = (second, first) if deed == "送给" else (first, second)
        return (
            f"{first}{deed}{second}一{thing}。{thing[1:]}归谁？",
            f"{thing[1:]}归{owner}，不归{other}。",
        )


@_family(held=("first", "second"), first=ZH_SIGNS, second=ZH_SIGNS, third=ZH_SIGNS)
def zh_reversal(first, second, third):
    if len({first, second, third}) == 3:
        return f"倒着念：{first}{second}{third}", f"{third}{second}{first}"
