"""Plain prose in English and Traditional Chinese about people and places that no world of the user's holds.

It is drawn from random streams of its own, so that it is new to a model trained on a world of any seed, and always the
same. A text in one language is followed by the one about the same subject in the other.
"""

from __future__ import annotations

from ingot.data.world.entities import make_people, make_places
from ingot.data.world.names import Namer
from ingot.data.world.telling import tell
from ingot.data.world.words import LANGUAGES, stream

SEED = 20_261_127
"""Far from the seeds people choose for their worlds, which use other streams besides."""

PEOPLE, PLACES = 40, 8


def general_texts() -> list[str]:
    """Two texts for each of PEOPLE and PLACES, one in each language."""
    namer = Namer()
    places = make_places(stream(SEED, "general/places"), namer, PLACES, 0.0)
    people = make_people(stream(SEED, "general/people"), namer, places, PEOPLE, 0.0)
    order = stream(SEED, "general/order").sample([*people, *places], PEOPLE + PLACES)
    rng = stream(SEED, "general/prose")
    return [tell(entity, language, rng).text for entity in order for language in LANGUAGES]
