"""When does the next request come? The arrival law of one sparse endpoint, learned one arrival at a time.

A Markov renewal process with a daily season: the hazard of the next arrival depends on the time since the last one,
on how long the gap before that was (bursts and pauses differ), and, outside sessions, on the half hour of the local
day. A timer (a job that comes every N minutes) adds an atom at its period. Little data is shrunk: an endpoint's class
hazards towards its own pooled hazard, that towards a prior (`prior.default_prior`, or `prior.pooled_prior` of a
fleet), with weights in events.

    law        what a law is: its arrays and its scalars
    start      where one begins: new, as a copy, or from a store
    prior      what is believed before the first request: by default, or as a fleet teaches it
    gaps       the bins and classes of gaps between arrivals
    season     the half hours of the local day
    timer      the job that comes every N minutes
    learning   arrivals go in: `observe`, `observe_steps`, `miss`
    hazard     answers come out: `hazard_between` for the loops, `survival` and its kin for people

The functions are plain loops over the arrays of `ArrivalLaw`, so that a compiler for numerical Python can compile the
same code that the cycle calls. Times are seconds since the epoch, UTC; only the season looks at local time, by the
table that forecaster.calendar makes. Nothing reads a clock.

Sources: hazards with Gamma-Poisson shrinkage are the posterior means of piecewise-constant hazards (Kalbfleisch and
Prentice, The Statistical Analysis of Failure Time Data, ch. 3); hour-of-day factors as in Shahrad et al., ATC 2020.
"""
