"""Whether a data set is fit to train on: the rule, and the sums behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.errors import DataError


def require_fit(
    splits: Mapping[str, int], quarantined: Sequence[Mapping[str, str]], max_quarantined: float
) -> None:
    """Refuses a data set with too many faulty items, or with an empty split.

    Args:
      splits: number of usable items of each split.
      quarantined: rows ``{"id", "reason"}`` of the items set aside.
      max_quarantined: share of faulty items that is tolerated; above 0, one item always is.

    Raises:
      DataError: one sentence.
    """
    usable = sum(splits.values())
    total = usable + len(quarantined)
    if len(quarantined) > (max(1, max_quarantined * total) if max_quarantined else 0):
        worst = "; ".join(f"{row['id']}: {row['reason']}" for row in quarantined[:3])
        more = ", ..." if len(quarantined) > 3 else ""
        raise DataError(
            f"{len(quarantined)} of {total} items are faulty, more than data.max_quarantined = "
            f"{max_quarantined:g} allows ({worst}{more}); mend them or raise the setting."
        )
    for split, count in splits.items():
        if count == 0:
            raise DataError(
                f"The split '{split}' has no usable items ({usable} in all); "
                "add photos, or change data.eval_share, data.test_share or annotations/*.txt."
            )
