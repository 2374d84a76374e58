/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * cost.h - how long a batch takes on some units: measured, averaged, interpolated.
 *
 * A grid of batch sizes by widths (number of units).  Each cell keeps a recent mean and mean
 * deviation of measured times; a batch between two grid points updates both, in proportion.
 * Cells that were never measured are predicted from those that were, and a cell that has not
 * been used for a while is believed to be as good as it once was: a width that looked slow while
 * something else disturbed the machine would otherwise never be tried again.  Plain data of fixed
 * size, no allocation; reads are pure.  Guard: the owner's (the server's lock).
 *
 * A time is what a request sees: from the decision to start until the completion, so it
 * contains the executor's own cost and not only the engine's.
 */
#ifndef SX_COST_COST_H
#define SX_COST_COST_H

#include <stdbool.h>
#include <stdint.h>

#define SX_COST_WIDTHS  12
#define SX_COST_BATCHES 20

struct sx_cost_entry {
    double ns, spread_ns; /* mean and mean absolute deviation; the last ~10 runs weigh most */
    double floor_ns;      /* the best that it was, forgotten slowly; see cost.c: relax() */
    double idle_ns;       /* time since it was last measured, */
    uint64_t passed;      /* and runs of other cells since */
    uint64_t runs;
};

struct sx_cost {
    unsigned n_widths, n_batches;
    unsigned widths[SX_COST_WIDTHS];   /* ascending; widths[0] is 1 */
    unsigned batches[SX_COST_BATCHES]; /* ascending; batches[0] is 1 */
    struct sx_cost_entry cell[SX_COST_WIDTHS][SX_COST_BATCHES];
    unsigned last_width, last_lo, last_hi; /* indices: the cell(s) measured last */
    /* Derived at each update, so that decisions need not search. */
    double unit_ns;      /* least unit-time per sample over the grid: width * T / batch */
    unsigned unit_batch; /* the batch size of that cell */
    unsigned unit_width;
};

/* Widths 1, 2, 4, ... and n_units; batches 1, 2, 4, 8, ... and max_batch, plus `preferred`. */
void sx_cost_init(struct sx_cost *cost, unsigned n_units, unsigned max_batch,
                  const unsigned *preferred, unsigned n_preferred);
/* Index of a width in the grid, which must hold it. */
unsigned sx_cost_width_index(const struct sx_cost *cost, unsigned width);
/* Learn from one run. */
void sx_cost_record(struct sx_cost *cost, unsigned batch, unsigned width, uint64_t ns);
/* It did not run for so long: what disturbed a cell that is not in use may be over. */
void sx_cost_rest(struct sx_cost *cost, uint64_t ns);
/* Predicted time in ns of `batch` samples on widths[wi] units; 0 while nothing is known at all. */
double sx_cost_ns(const struct sx_cost *cost, unsigned batch, unsigned wi);
/* Has a single sample on widths[wi] units been measured, but not for so long and while so many
 * others ran that to try it again costs next to nothing, and may tell something new? */
bool sx_cost_worth_a_try(const struct sx_cost *cost, unsigned wi);
/* Predicted mean absolute deviation of that time. */
double sx_cost_spread_ns(const struct sx_cost *cost, unsigned batch, unsigned wi);

#endif
