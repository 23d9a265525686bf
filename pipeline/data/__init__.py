"""The data set: its layout, the checks of its items, and preprocessing.

`layout` lists the items of a folder and their splits, `spans` picks the newest batches,
`duplicates` finds equal photos, `validation` checks one item, `health` decides whether a data set
is fit to train on. `download` fetches the real data set, `synthetic` generates the built-in one.
`preprocessing` turns encoded bytes into pixels, for training and serving alike.
May import: `pipeline.core`, `pipeline.settings`.
"""
