"""Trees of scikit-learn that lead somewhere: its compiled code walks them without looking."""

from typing import Any

from serving.model.stand_ins import BadModel


def require_sound_trees(classifier: Any, width: int) -> None:
    """Raise `BadModel` where a tree in a loaded classifier leads to its ancestor, or out of itself or of a row.

    A row has `width` features. Every node is looked at, since a single row reaches few.
    """
    import numpy as np  # noqa: PLC0415 (a linear model does without)

    seen: set[int] = set()
    waiting = [classifier]
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        match type(each).__name__:
            case "Tree":
                _require_inside("nodes", [each.node_count - 1], each.capacity)
                inner = each.children_left != -1
                children = each.children_left[inner], each.children_right[inner]
                _require_children(inner.nonzero()[0], *children, each.node_count)
                _require_inside("features", each.feature[inner], min(width, each.n_features))
            case "TreePredictor":
                nodes = each.nodes
                inner = nodes["is_leaf"] == 0
                _require_children(inner.nonzero()[0], nodes["left"][inner], nodes["right"][inner], len(nodes))
                _require_inside("features", nodes["feature_idx"][inner], width)
                sets = nodes["bitset_idx"][inner & (nodes["is_categorical"] != 0)]
                _require_inside("sets", sets, min(len(each.raw_left_cat_bitsets), len(each.binned_left_cat_bitsets)))
            case "ndarray":
                waiting += each.ravel().tolist() if each.dtype == np.object_ else []
            case "list" | "tuple" | "set":
                waiting += each
            case "dict":
                waiting += each.values()
            case _:
                if (tree := getattr(each, "tree_", None)) is not None and tree.n_features != each.n_features_in_:
                    raise BadModel("it has a tree for other features than its own")
                waiting += getattr(each, "__dict__", {}).values()


def _require_children(parents: Any, left: Any, right: Any, nodes: int) -> None:
    # scikit-learn numbers a node before its children.
    if (left <= parents).any() or (right <= parents).any():
        raise BadModel("it has a tree in which a node leads back to itself")
    _require_inside("nodes", left, nodes)
    _require_inside("nodes", right, nodes)


def _require_inside(what: str, indices: Any, number: int) -> None:
    if len(indices) and not (min(indices) >= 0 and max(indices) < number):
        raise BadModel(f"it has a tree that leads out of its {number:,} {what}")
