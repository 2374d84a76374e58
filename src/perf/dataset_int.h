/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * dataset_int.h - shared by the files that fill a dataset.
 */
#ifndef SX_PERF_DATASET_INT_H
#define SX_PERF_DATASET_INT_H

#include "perf/dataset.h"

#define SX_SAMPLE_MAX ((size_t)1 << 30) /* bytes of one input */

/* Tensors with type and shape and no data yet.  sx_dataset_fini frees each one's data. */
enum sx_rc sx_dataset_alloc(struct sx_dataset *d, const struct sx_model_info *m, size_t n_samples,
                            struct sx_err *err);

#endif
