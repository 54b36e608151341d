"""Blocks of the cache against a model of them that keeps whole texts, under any order of events."""

import random

import pytest

from ingot.infer.blocks import BLOCK, Blocks


@pytest.mark.parametrize("seed", range(30))
def test_blocks_are_found_by_their_whole_beginning_and_never_lost(seed: int) -> None:
    """Texts over two letters, so that many begin alike; a found chain must hold exactly the text's beginning."""
    chooser, blocks = random.Random(seed), Blocks(12)
    content: dict[int, tuple[int, ...]] = {}
    live: list[list[int]] = []
    for _ in range(400):
        if live and chooser.random() < 0.45:
            blocks.release(live.pop(chooser.randrange(len(live))))
        else:
            parts = [[chooser.randrange(2)] * BLOCK for _ in range(chooser.randrange(1, 5))]
            table, node, whole = [], "root", ()
            for part in parts:
                whole += tuple(part)
                found = blocks.find(node, part)
                if found is None:
                    block = blocks.take()
                    if block is None:
                        break
                    content[block] = whole
                    node = blocks.publish(node, part, block)
                else:
                    node, block = found
                    assert content[block] == whole
                table.append(block)
            live.append(table)
        held = {block for table in live for block in table}
        assert blocks.num_free == 11 - len(held)
        assert 0 not in held
    for table in live:
        blocks.release(table)
    assert blocks.num_free == 11


def test_the_longest_unused_goes_first_and_the_end_before_the_beginning() -> None:
    blocks = Blocks(4)
    first, second, other = (blocks.take() for _ in range(3))
    assert first
    assert second
    assert other
    node = blocks.publish("root", [1] * BLOCK, first)
    blocks.publish(node, [2] * BLOCK, second)
    blocks.publish("root", [3] * BLOCK, other)
    blocks.release([first, second])
    blocks.release([other])
    assert blocks.take() == second
    assert blocks.find("root", [3] * BLOCK) is not None
    assert blocks.find(node, [2] * BLOCK) is None
    assert blocks.take() == first
    assert blocks.take() is None
    assert blocks.find("root", [1] * BLOCK) is None


def test_two_that_hold_the_same_keep_their_own_and_one_is_found() -> None:
    blocks = Blocks(3)
    one, two = blocks.take(), blocks.take()
    assert one
    assert two
    assert blocks.publish("root", [1] * BLOCK, one) == blocks.publish("root", [1] * BLOCK, two)
    blocks.release([two])
    assert blocks.num_free == 1
    found = blocks.find("root", [1] * BLOCK)
    assert found is not None
    assert found[1] == one
    assert blocks.num_held("root", [[1] * BLOCK, [2] * BLOCK]) == 1
