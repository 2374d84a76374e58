/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "partition/metis.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/dir_test.h"
#include "base/file.h"
#include "partition/part_int.h"
#include "partition/problem_test.h"

#define RUNS 64 /* as many as sx_part_solve asks for */

static char helper[96];

static int setup(void **state)
{
    (void)state;
    return make_dir(helper, sizeof helper, "helper");
}

/* --- the real one --- */

static void metis_proposes_parts(void **unused)
{
    (void)unused;
    for (uint64_t seed = 0; seed < 12; seed++) {
        struct made m;
        struct sx_err err = {0};
        uint32_t *parts[RUNS], *again[RUNS];
        size_t n = 0, n_again = 0;
        unsigned stages = 2 + (unsigned)seed % 3;
        made_init(&m, seed, (enum made_shape)(seed % MADE_SHAPES), 60, stages, seed % 2);
        if (seed % 3 == 0)
            made_groups(&m, seed);
        if (seed % 4 == 0)
            made_memory(&m, seed, 1.3);
        enum sx_rc rc = sx_metis_propose(&m.problem, NULL, 5, parts, RUNS, &n, &err);
        if (rc != SX_OK)
            fail_msg("%s", err.message);
        assert_in_range(n, 1, RUNS);
        assert_int_equal(sx_metis_propose(&m.problem, NULL, 5, again, RUNS, &n_again, NULL), SX_OK);
        assert_int_equal(n, n_again);
        for (size_t i = 0; i < n; i++) {
            unsigned used = 0;
            for (uint32_t v = 0; v < 60; v++) {
                assert_in_range(parts[i][v], 0, stages - 1);
                assert_int_equal(parts[i][v], again[i][v]); /* same seed, same parts */
                used |= 1u << parts[i][v];
                if (m.group)
                    assert_int_equal(parts[i][v], parts[i][m.group[v]]);
            }
            assert_true(used & (used - 1)); /* more than one part */
            free(parts[i]);
            free(again[i]);
        }
        made_free(&m);
    }
}

/* Parts have the sizes of the stages' speeds. */
static void parts_follow_the_speeds(void **unused)
{
    (void)unused;
    struct made m;
    uint32_t *parts[RUNS];
    size_t n = 0;
    unsigned right = 0;
    made_init(&m, 9, MADE_SERIES_PARALLEL, 400, 2, false);
    assert_int_equal(sx_metis_propose(&m.problem, NULL, 1, parts, RUNS, &n, NULL), SX_OK);
    for (size_t i = 0; i < n; i++) {
        double in[2] = {0, 0};
        for (uint32_t v = 0; v < 400; v++)
            in[parts[i][v]] += m.node_ns[v];
        double share = in[0] / (in[0] + in[1]);
        right += share > 0.7 && share < 0.9;
        free(parts[i]);
    }
    assert_true(right > n / 2);
    made_free(&m);
}

/* Not worse: by the slowest stage; by the bytes where both are within 1 % of the least of all. */
static bool not_worse(const struct sx_part_result *ours, const struct sx_part_value *value)
{
    double same = fmin(ours->value.slowest_ns, ours->rival_ns) * (1 + SX_PART_CLOSE);
    if (ours->value.slowest_ns <= same * (1 + 1e-9) && value->slowest_ns <= same * (1 - 1e-9))
        return ours->value.bytes_cut <= value->bytes_cut * (1 + 1e-9);
    return ours->value.slowest_ns <= value->slowest_ns * (1 + 1e-9);
}

/* Is the winner as good as METIS's parts as stages in any valid order? */
static void expect_not_worse(const struct sx_part_problem *p, const struct sx_part_result *ours,
                             const uint32_t *part, unsigned *name, unsigned fixed, uint32_t *stage,
                             unsigned *ret_valid)
{
    if (fixed == p->n_stages) {
        struct sx_part_value value;
        for (uint32_t v = 0; v < p->n_nodes; v++)
            stage[v] = name[part[v]];
        if (!sx_part_valid(p, stage))
            return;
        (*ret_valid)++;
        sx_part_evaluate(p, stage, &value);
        assert_true(not_worse(ours, &value));
        return;
    }
    for (unsigned i = fixed; i < p->n_stages; i++) {
        unsigned kept = name[fixed];
        name[fixed] = name[i];
        name[i] = kept;
        expect_not_worse(p, ours, part, name, fixed + 1, stage, ret_valid);
        name[i] = name[fixed];
        name[fixed] = kept;
    }
}

static void the_winner_is_not_worse_than_any_proposal(void **unused)
{
    (void)unused;
    unsigned valid = 0, with_metis = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct made m;
        struct sx_part_result ours = {0}, cut = {0};
        const struct sx_part_options plain = {.methods = 1u << SX_PART_TOPOLOGICAL,
                                              .no_refine = true};
        const struct sx_part_options options = {.seed = seed};
        uint32_t *parts[RUNS], n_nodes = 20 + (uint32_t)seed * 4, *stage;
        size_t n = 0;
        made_init(&m, 50 + seed, (enum made_shape)(seed % MADE_SHAPES), n_nodes,
                  2 + (unsigned)seed % 3, seed / 4 % 2);
        if (seed % 5 == 0)
            made_memory(&m, seed, 1.4);
        assert_int_equal(sx_part_solve(&m.problem, &options, &ours, NULL), SX_OK);
        assert_int_equal(sx_part_solve(&m.problem, &plain, &cut, NULL), SX_OK);
        assert_true(sx_part_valid(&m.problem, ours.stage));
        assert_string_equal(ours.note, "");
        /* 1 % for bytes to decide among rivals, and 1 % among those that no rival beats */
        assert_true(ours.value.slowest_ns <=
                    cut.value.slowest_ns * (1 + SX_PART_CLOSE) * (1 + SX_PART_CLOSE));
        assert_int_equal(sx_metis_propose(&m.problem, NULL, seed, parts, RUNS, &n, NULL), SX_OK);
        assert_int_equal(n, ours.metis_runs);
        stage = made_array(n_nodes, sizeof *stage);
        unsigned valid_runs = 0;
        for (size_t i = 0; i < n; i++) {
            unsigned name[] = {0, 1, 2, 3}, orders = 0;
            expect_not_worse(&m.problem, &ours, parts[i], name, 0, stage, &orders);
            valid_runs += orders > 0;
            free(parts[i]);
        }
        assert_int_equal(valid_runs, ours.metis_valid);
        assert_int_equal(valid_runs > 0, !isinf(ours.metis_raw_ns));
        valid += valid_runs;
        with_metis += ours.method == SX_PART_METIS;
        free(stage);
        sx_part_result_fini(&ours);
        sx_part_result_fini(&cut);
        made_free(&m);
    }
    /* else there was nothing to be compared with */
    assert_true(valid > 40);
    assert_true(with_metis > 0);
}

static void *solve_again(void *arg)
{
    const struct made *m = arg;
    struct sx_part_result result = {0};
    double ns = 0;
    for (int i = 0; i < 5; i++) {
        if (sx_part_solve(&m->problem, NULL, &result, NULL) != SX_OK || result.note[0] ||
            (i > 0 && result.value.slowest_ns < ns) || result.metis_runs == 0)
            return NULL;
        ns = result.value.slowest_ns;
        sx_part_result_fini(&result);
    }
    return arg;
}

static void threads_may_solve_at_once(void **unused)
{
    (void)unused;
    struct made m;
    pthread_t threads[4];
    made_init(&m, 77, MADE_LAYERS, 80, 3, true);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, solve_again, &m), 0);
    for (int i = 0; i < 4; i++) {
        void *well;
        pthread_join(threads[i], &well);
        assert_ptr_equal(well, &m);
    }
    made_free(&m);
}

/* --- helpers that fail --- */

static void write_helper(const char *script)
{
    char text[512];
    int n = snprintf(text, sizeof text, "#!/bin/sh\n%s\n", script);
    assert_int_equal(sx_file_write(helper, text, (size_t)n, NULL), SX_OK);
    assert_int_equal(chmod(helper, 0700), 0);
}

/* The helper fails as `expect` says, solving goes on without it, and nothing is left behind. */
static void expect_failure(const char *program, const char *expect, bool solve)
{
    struct made m;
    struct sx_err err = {0};
    uint32_t *parts[2];
    size_t n = 0;
    made_init(&m, 5, MADE_LAYERS, 40, 2, true);
    assert_int_equal(sx_metis_propose(&m.problem, program, 1, parts, 2, &n, &err), SX_UNSUPPORTED);
    if (!strstr(err.message, expect))
        fail_msg("'%s' does not say '%s'", err.message, expect);
    if (solve) {
        struct sx_part_result result = {0}, own = {0};
        const struct sx_part_options options = {.metis_helper = program};
        const struct sx_part_options only = {.methods = 1u << SX_PART_TOPOLOGICAL};
        assert_int_equal(sx_part_solve(&m.problem, &options, &result, NULL), SX_OK);
        assert_int_equal(sx_part_solve(&m.problem, &only, &own, NULL), SX_OK);
        assert_memory_equal(result.stage, own.stage, 40 * sizeof *own.stage);
        assert_int_equal(result.method, SX_PART_TOPOLOGICAL);
        assert_int_equal(result.metis_runs, 0);
        assert_true(isinf(result.proposed_ns[SX_PART_METIS]));
        assert_non_null(strstr(result.note, "METIS had no say"));
        assert_string_equal(own.note, "");
        sx_part_result_fini(&result);
        sx_part_result_fini(&own);
    }
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child that nobody waits for */
    made_free(&m);
}

static void a_helper_that_is_missing_is_no_failure(void **unused)
{
    (void)unused;
    expect_failure("/nonexistent/staronnx-metis", "No such file", true);
    assert_int_equal(sx_file_write(helper, "x", 1, NULL), SX_OK);
    assert_int_equal(chmod(helper, 0600), 0);
    expect_failure(helper, "cannot start", false);
    assert_int_equal(chmod(helper, 0700), 0);
    expect_failure(helper, "cannot start", false); /* no program at all */
    setenv("STARONNX_METIS", "/nonexistent/other", 1);
    expect_failure(NULL, "/nonexistent/other", true);
    unsetenv("STARONNX_METIS");
}

static void a_helper_that_ends_badly_harms_nobody(void **unused)
{
    (void)unused;
    write_helper("exit 3");
    expect_failure(helper, "status 3", true);
    write_helper("cat >/dev/null & kill -ABRT $$");
    expect_failure(helper, "signal 6", true);
    write_helper("kill -KILL $$");
    expect_failure(helper, "signal 9", false);
    write_helper("kill -TERM $$");
    expect_failure(helper, "signal 15", false);
    write_helper("exit 0");
    expect_failure(helper, "wrote 0 bytes", true);
    write_helper("exec cat >/dev/null 0<&-");
    expect_failure(helper, "", false);
}

static void what_a_helper_writes_is_not_trusted(void **unused)
{
    (void)unused;
    write_helper("printf garbage; exit 0");
    expect_failure(helper, "wrote 7 bytes of 90", false);
    write_helper("head -c 90 /dev/zero");
    expect_failure(helper, "garbage", false);
    write_helper("exec cat /dev/zero");
    expect_failure(helper, "more than it was asked for", true);
    /* right in form, with parts that there are not */
    write_helper("printf sxparts1; for i in 1 2; do printf '\\001'; "
                 "head -c 40 /dev/zero | tr '\\000' '\\377'; done");
    expect_failure(helper, "into part 255 of 2", false);
    write_helper("printf sxparts1; head -c 82 /dev/zero");
    expect_failure(helper, "refused", false);
    /* a whole answer does not count when the helper fails behind it */
    write_helper("printf sxparts1; for i in 1 2; do printf '\\001'; head -c 40 /dev/zero; done; "
                 "exit 1");
    expect_failure(helper, "status 1", false);
}

static void a_helper_that_hangs_is_ended(void **unused)
{
    (void)unused;
    uint64_t begin = sx_now();
    write_helper("sleep 1000 & exec sleep 1000");
    expect_failure(helper, "too long", false);
    write_helper("exec 0<&- 1>&-; exec sleep 1000"); /* says goodbye and stays */
    expect_failure(helper, "too long", false);
    assert_true(sx_now() - begin < 60 * SX_S);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metis_proposes_parts),
        cmocka_unit_test(parts_follow_the_speeds),
        cmocka_unit_test(the_winner_is_not_worse_than_any_proposal),
        cmocka_unit_test(threads_may_solve_at_once),
        cmocka_unit_test(a_helper_that_is_missing_is_no_failure),
        cmocka_unit_test(a_helper_that_ends_badly_harms_nobody),
        cmocka_unit_test(what_a_helper_writes_is_not_trusted),
        cmocka_unit_test(a_helper_that_hangs_is_ended),
    };
    return cmocka_run_group_tests(tests, setup, remove_dir);
}
