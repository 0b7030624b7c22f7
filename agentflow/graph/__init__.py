"""What a graph means, on paper: its model, its pins, its validation and its compiled plan. No I/O, no clock.

Read in this order: `model` (the document), `catalogue` (what it must know about blocks), `pins` and
`coercion` (how values reach a block), `validation` (is it right?), `plan` (the form that workers run),
`schemas` (what its users may give and will get).
"""
