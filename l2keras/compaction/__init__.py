"""A model without the channels that no output depends on.

A channel is an index along one axis of a tensor: a unit, a filter, a feature.
The `graph` numbers them, by the rules of the `kinds` of layers: most are
`consumers`, which read channels and make others, or hand them on, `passing`.
`recurrent` layers read their own too, and channels in `groups` go together.
The `plan` finds the dead and the constant ones, and the weights without them;
`rebuilding` makes the model anew.
"""
