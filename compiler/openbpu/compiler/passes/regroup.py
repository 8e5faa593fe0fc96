"""Swapping a reshape with the transpose in front of it, where it keeps together what the transpose moves."""

from __future__ import annotations

from collections.abc import Sequence


def factor(source: Sequence[int], target: Sequence[int]) -> list[tuple[list[int], list[int]]] | None:
    """Split two shapes of the same size into the finest groups of axes with equal products.

    Returns (source axes, target axes) per group; None when the sizes differ. Axes of length 1 join the group
    on their left.
    """
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(source) or j < len(target):
        left, right = [i] if i < len(source) else [], [j] if j < len(target) else []
        a = source[i] if left else 1
        b = target[j] if right else 1
        i, j = i + len(left), j + len(right)
        while a != b:
            if a < b:
                if i >= len(source):
                    return None
                a, i = a * source[i], i + 1
                left.append(i - 1)
            else:
                if j >= len(target):
                    return None
                b, j = b * target[j], j + 1
                right.append(j - 1)
        if not left or not right:
            if not groups:
                return None
            groups[-1][0].extend(left)
            groups[-1][1].extend(right)
            continue
        groups.append((left, right))
    return groups


def regroup(
    shape: Sequence[int], perm: Sequence[int], target: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Turn transpose(perm) then reshape(target) of a tensor of `shape` into reshape then transpose.

    Returns (early shape, late permutation), or None when the reshape mixes axes that the transpose tears
    apart.
    """
    # Axes of length 1 may stand anywhere.
    long = [axis for axis, size in enumerate(shape) if size != 1]
    perm = [long.index(p) for p in perm if shape[p] != 1]
    shape = [shape[axis] for axis in long]
    moved = [shape[p] for p in perm]
    groups = factor(moved, target)
    if groups is None:
        return None
    pieces: list[tuple[int, list[int]]] = []  # (first source axis, target axes)
    for left, right in groups:
        axes = [perm[i] for i in left]
        if axes != list(range(axes[0], axes[0] + len(axes))):
            return None
        pieces.append((axes[0], right))
    order = sorted(range(len(pieces)), key=lambda g: pieces[g][0])
    early: list[int] = []
    place: dict[int, int] = {}
    for g in order:
        for axis in pieces[g][1]:
            place[axis] = len(early)
            early.append(target[axis])
    return tuple(early), tuple(place[a] for a in range(len(target)))
