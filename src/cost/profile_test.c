/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "cost/profile.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/dir_test.h"
#include "base/file.h"
#include "base/rng.h"

#define NODES 5

static char path[96];

static int setup(void **state)
{
    (void)state;
    return make_dir(path, sizeof path, "sub/p.json");
}

static const struct sx_profile_key some_key = {
    .model = "0123456789abcdef0123456789abcdef",
    .machine = "cpu-4-cores",
    .engine = "ONNX Runtime 1.21.0",
    .n_nodes = NODES,
};

static void put(struct sx_profile *p, const char *kind, unsigned units, unsigned batch,
                const double *ns, double whole)
{
    double spread[NODES] = {0.125, 0, 1e-3, 3, 1.0 / 3};
    struct sx_profile_table t = {
        .units = units,
        .batch = batch,
        .runs = 20,
        .whole_ns = whole,
        .whole_spread_ns = whole / 7,
        .node_ns = (double *)(uintptr_t)ns,
        .node_spread_ns = spread,
    };

    snprintf(t.kind, sizeof t.kind, "%s", kind);
    assert_int_equal(sx_profile_put(p, &t, NULL), SX_OK);
}

static void put_some(struct sx_profile *p)
{
    static const double a[NODES] = {1, 2, 3, 4, 0}, b[NODES] = {3, 4, 3, 10, 0};

    memset(p, 0, sizeof *p);
    p->key = some_key;
    put(p, "gpu", 1, 1, a, 7);
    put(p, "cpu", 2, 4, b, 20);
    put(p, "cpu", 1, 1, a, 10);
    put(p, "cpu", 1, 4, b, 20);
    struct sx_profile_link link = {"cpu", "gpu", 1234.5, 1.0 / 3};
    assert_int_equal(sx_profile_put_link(p, &link, NULL), SX_OK);
}

static bool same(const struct sx_profile *a, const struct sx_profile *b)
{
    if (memcmp(&a->key, &b->key, sizeof a->key) || a->n_tables != b->n_tables ||
        a->n_links != b->n_links)
        return false;
    for (size_t i = 0; i < a->n_tables; i++) {
        const struct sx_profile_table *x = &a->tables[i], *y = &b->tables[i];
        size_t bytes = a->key.n_nodes * sizeof(double);
        if (strcmp(x->kind, y->kind) || x->units != y->units || x->batch != y->batch ||
            x->runs != y->runs || memcmp(&x->whole_ns, &y->whole_ns, 2 * sizeof(double)) ||
            memcmp(x->node_ns, y->node_ns, bytes) ||
            memcmp(x->node_spread_ns, y->node_spread_ns, bytes))
            return false;
    }
    for (size_t i = 0; i < a->n_links; i++) {
        const struct sx_profile_link *x = &a->links[i], *y = &b->links[i];
        if (strcmp(x->from, y->from) || strcmp(x->to, y->to) ||
            memcmp(&x->fixed_ns, &y->fixed_ns, 2 * sizeof(double)))
            return false;
    }
    return true;
}

static void put_sorts_replaces_and_scales(void **state)
{
    (void)state;
    struct sx_profile p;
    put_some(&p);
    assert_int_equal(p.n_tables, 4);
    assert_string_equal(p.tables[0].kind, "cpu");
    assert_int_equal(p.tables[0].batch, 1);
    assert_int_equal(p.tables[1].batch, 4);
    assert_int_equal(p.tables[2].units, 2);
    assert_string_equal(p.tables[3].kind, "gpu");
    const struct sx_profile_table *gpu = sx_profile_get(&p, "gpu", 1, 1);
    assert_non_null(gpu);
    assert_true(fabs(gpu->node_ns[3] - 4 * 0.7) < 1e-12);
    assert_true(fabs(gpu->node_spread_ns[3] - 3 * 0.7) < 1e-12);
    assert_null(sx_profile_get(&p, "gpu", 1, 2));
    assert_null(sx_profile_get(&p, "gp", 1, 1));

    double other[NODES] = {5, 5, 5, 5, 5};
    put(&p, "cpu", 1, 4, other, 25);
    assert_int_equal(p.n_tables, 4);
    assert_true(sx_profile_get(&p, "cpu", 1, 4)->node_ns[4] == 5);
    sx_profile_fini(&p);
}

static void put_refuses_what_is_no_time(void **state)
{
    (void)state;
    struct sx_profile p = {.key = some_key};
    double ns[NODES] = {1, 1, 1, 1, 1};
    struct sx_profile_table good = {
        .kind = "cpu", .units = 1, .batch = 1, .whole_ns = 5, .node_ns = ns, .node_spread_ns = ns};
    struct sx_err err;
    const double bad[] = {-1, NAN, INFINITY, 1e30};
    for (size_t i = 0; i < 4; i++) {
        ns[2] = bad[i];
        assert_int_equal(sx_profile_put(&p, &good, &err), SX_INVALID);
        ns[2] = 1;
        struct sx_profile_table t = good;
        t.whole_ns = bad[i];
        assert_int_equal(sx_profile_put(&p, &t, &err), SX_INVALID);
        struct sx_profile_link link = {"cpu", "cpu", bad[i], 0};
        assert_int_equal(sx_profile_put_link(&p, &link, &err), SX_INVALID);
    }
    struct sx_profile_table t = good;
    t.units = 0;
    assert_int_equal(sx_profile_put(&p, &t, &err), SX_INVALID);
    t = good;
    t.kind[0] = '\0';
    assert_int_equal(sx_profile_put(&p, &t, &err), SX_INVALID);
    assert_int_equal(p.n_tables + p.n_links, 0);
    assert_int_equal(sx_profile_put(&p, &good, &err), SX_OK);
    sx_profile_fini(&p);
}

static void holes_are_filled_from_the_nearest_two(void **state)
{
    (void)state;
    struct sx_profile p;
    double ns[NODES], whole;
    put_some(&p); /* cpu, 1 unit: batch 1 and 4 */

    assert_int_equal(sx_profile_node_ns(&p, "cpu", 1, 1, ns, &whole), SX_OK);
    assert_true(ns[3] == 4 && whole == 10);
    assert_int_equal(sx_profile_node_ns(&p, "cpu", 1, 2, ns, &whole), SX_OK);
    assert_true(fabs(ns[3] - 6) < 1e-12 && fabs(ns[2] - 3) < 1e-12);
    assert_true(fabs(whole - (10 + 10.0 / 3)) < 1e-12);
    assert_int_equal(sx_profile_node_ns(&p, "cpu", 1, 7, ns, &whole), SX_OK);
    assert_true(fabs(ns[3] - 16) < 1e-12 && fabs(whole - 30) < 1e-12);

    /* one alone: in proportion */
    assert_int_equal(sx_profile_node_ns(&p, "cpu", 2, 8, ns, &whole), SX_OK);
    assert_true(fabs(ns[3] - 20) < 1e-12 && fabs(whole - 40) < 1e-12);
    assert_int_equal(sx_profile_node_ns(&p, "cpu", 2, 1, ns, NULL), SX_OK);
    assert_true(fabs(ns[3] - 2.5) < 1e-12);

    assert_int_equal(sx_profile_node_ns(&p, "cpu", 3, 1, ns, &whole), SX_NOT_FOUND);
    assert_int_equal(sx_profile_node_ns(&p, "npu", 1, 1, ns, &whole), SX_NOT_FOUND);

    /* the nearest two of several, below and above; noise that falls with the batch */
    static const double fast[NODES] = {1, 1, 1, 1, 0};
    put(&p, "cpu", 1, 8, fast, 4);
    assert_int_equal(sx_profile_node_ns(&p, "cpu", 1, 6, ns, &whole), SX_OK);
    assert_true(fabs(ns[3] - 5.5) < 1e-12 && fabs(whole - 12) < 1e-12);
    assert_int_equal(sx_profile_node_ns(&p, "cpu", 1, 16, ns, &whole), SX_OK);
    assert_true(ns[3] == 1 && whole == 4);
    sx_profile_fini(&p);
}

/* Whatever was measured: predictions are times, and never fall above the largest batch. */
static void predictions_stay_sane(void **state)
{
    (void)state;
    struct sx_rng rng;
    sx_rng_init(&rng, 7);
    for (int round = 0; round < 200; round++) {
        struct sx_profile p = {.key = some_key};
        unsigned n = 1 + (unsigned)sx_rng_below(&rng, 4);
        for (unsigned i = 0; i < n; i++) {
            double ns[NODES], total = 0;
            for (int v = 0; v < NODES; v++)
                total += ns[v] = sx_rng_double(&rng) * 1e6;
            put(&p, "cpu", 1, 1 + (unsigned)sx_rng_below(&rng, 64), ns, total);
        }
        double last = -1;
        for (unsigned batch = 1; batch <= 200; batch++) {
            double ns[NODES], whole, total = 0;
            assert_int_equal(sx_profile_node_ns(&p, "cpu", 1, batch, ns, &whole), SX_OK);
            for (int v = 0; v < NODES; v++) {
                assert_true(ns[v] >= 0 && isfinite(ns[v]));
                total += ns[v];
            }
            const struct sx_profile_table *at = sx_profile_get(&p, "cpu", 1, batch);
            assert_true(!at || (whole == at->whole_ns && fabs(total - whole) <= 1e-8 * whole));
            if (batch > p.tables[p.n_tables - 1].batch)
                assert_true(whole >= last);
            last = whole;
        }
        sx_profile_fini(&p);
    }
}

static void links_have_a_default(void **state)
{
    (void)state;
    struct sx_profile p;
    put_some(&p);
    assert_true(sx_profile_link(&p, "cpu", "gpu").fixed_ns == 1234.5);
    struct sx_profile_link guess = sx_profile_link(&p, "gpu", "cpu");
    assert_string_equal(guess.from, "gpu");
    assert_string_equal(guess.to, "cpu");
    assert_true(guess.fixed_ns == 1000 && guess.byte_ns == 0.1);
    struct sx_profile_link again = {"cpu", "gpu", 1, 2};
    assert_int_equal(sx_profile_put_link(&p, &again, NULL), SX_OK);
    assert_int_equal(p.n_links, 1);
    assert_true(sx_profile_link(&p, "cpu", "gpu").byte_ns == 2);
    sx_profile_fini(&p);
}

/* --- files ------------------------------------------------------------------------------------ */

static void comes_back_bit_for_bit(void **state)
{
    (void)state;
    struct sx_profile p, q;
    put_some(&p);
    assert_int_equal(sx_profile_save(&p, path, NULL), SX_OK);
    assert_int_equal(sx_profile_load(path, &some_key, &q, NULL), SX_OK);
    assert_true(same(&p, &q));
    sx_profile_fini(&q);
    assert_int_equal(sx_profile_load(path, NULL, &q, NULL), SX_OK);
    sx_profile_fini(&q);
    sx_profile_fini(&p);

    /* also without anything in it */
    struct sx_profile empty = {.key = some_key};
    assert_int_equal(sx_profile_save(&empty, path, NULL), SX_OK);
    assert_int_equal(sx_profile_load(path, NULL, &q, NULL), SX_OK);
    assert_true(same(&empty, &q));
    sx_profile_fini(&q);
}

static void refuses_what_it_was_not_made_for(void **state)
{
    (void)state;
    struct sx_profile p, q = {0};
    struct sx_err err;
    put_some(&p);
    assert_int_equal(sx_profile_save(&p, path, NULL), SX_OK);
    sx_profile_fini(&p);

    static const struct {
        size_t offset;
        const char *value, *was, *word;
    } wrong[] = {
        {offsetof(struct sx_profile_key, machine), "other", "cpu-4-cores", "machine"},
        {offsetof(struct sx_profile_key, engine), "ONNX Runtime 2", "1.21.0", "engine"},
        {offsetof(struct sx_profile_key, model), "feed", "0123456789abcdef", "model"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct sx_profile_key key = some_key;
        snprintf((char *)&key + wrong[i].offset, 32, "%s", wrong[i].value);
        assert_int_equal(sx_profile_load(path, &key, &q, &err), SX_INVALID);
        assert_non_null(strstr(err.message, wrong[i].value));
        assert_non_null(strstr(err.message, wrong[i].was));
        assert_non_null(strstr(err.message, wrong[i].word));
        assert_non_null(strstr(err.hint, "staronnx profile"));
    }
    struct sx_profile_key key = some_key;
    key.n_nodes++;
    assert_int_equal(sx_profile_load(path, &key, &q, &err), SX_INVALID);
    assert_non_null(strstr(err.message, "5 operators, this one has 6"));

    snprintf(path + strlen(path) - 6, 7, "x.json");
    assert_int_equal(sx_profile_load(path, NULL, &q, &err), SX_NOT_FOUND);
    assert_int_equal(sx_file_write(path, "{\"format\":99}", 13, NULL), SX_OK);
    assert_int_equal(sx_profile_load(path, NULL, &q, &err), SX_INVALID);
    assert_non_null(strstr(err.message, "format 99"));
    assert_int_equal(q.n_tables, 0);
}

static void cut_off_anywhere_is_refused(void **state)
{
    (void)state;
    struct sx_profile p, q = {0};
    struct sx_err err;
    char *text;
    size_t size;
    put_some(&p);
    assert_int_equal(sx_profile_save(&p, path, NULL), SX_OK);
    assert_int_equal(sx_file_read(path, 0, &text, &size, NULL), SX_OK);
    assert_true(text[size - 1] == '\n');
    for (size_t n = 0; n < size - 1; n++) { /* the newline alone is no loss */
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(text, 1, n, f), n);
        assert_int_equal(fclose(f), 0);
        assert_int_equal(sx_profile_load(path, &some_key, &q, &err), SX_INVALID);
        assert_non_null(strstr(err.message, "damaged"));
    }
    free(text);
    sx_profile_fini(&p);
}

/* Any change either is refused or gives numbers that keep what the header promises. */
static void changed_anywhere_does_no_harm(void **state)
{
    (void)state;
    static const char likely[] = "0123456789-+.eE,:[]{}\"\\ ntf\0";
    struct sx_profile p, q = {0};
    struct sx_rng rng;
    char *text;
    size_t size, taken = 0;
    put_some(&p);
    sx_rng_init(&rng, 3);
    assert_int_equal(sx_profile_save(&p, path, NULL), SX_OK);
    assert_int_equal(sx_file_read(path, 0, &text, &size, NULL), SX_OK);
    for (int round = 0; round < 20000; round++) {
        size_t at = sx_rng_below(&rng, size), count = 1 + sx_rng_below(&rng, 2);
        char kept[4] = {0};
        for (size_t i = 0; i < count && at + i < size; i++) {
            kept[i] = text[at + i];
            text[at + i] = sx_rng_below(&rng, 4) ? likely[sx_rng_below(&rng, sizeof likely - 1)]
                                                 : (char)sx_rng_u64(&rng);
        }
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(text, 1, size, f), size);
        assert_int_equal(fclose(f), 0);
        enum sx_rc rc = sx_profile_load(path, NULL, &q, NULL);
        if (rc == SX_OK) {
            double ns[NODES];
            taken++;
            for (size_t i = 0; i < q.n_tables; i++) {
                assert_true(q.key.n_nodes == NODES);
                for (size_t v = 0; v < NODES; v++)
                    assert_true(q.tables[i].node_ns[v] >= 0 && q.tables[i].node_ns[v] <= 2e18);
                assert_int_equal(
                    sx_profile_node_ns(&q, q.tables[i].kind, q.tables[i].units, 3, ns, NULL),
                    SX_OK);
            }
            sx_profile_fini(&q);
        } else {
            assert_int_equal(rc, SX_INVALID);
        }
        for (size_t i = 0; i < count && at + i < size; i++)
            text[at + i] = kept[i];
    }
    assert_in_range(taken, 100, 19000); /* the test does see both */
    free(text);
    sx_profile_fini(&p);
}

/* --- keys ------------------------------------------------------------------------------------- */

static void place_in_the_cache_follows_the_key(void **state)
{
    (void)state;
    struct sx_profile_key keys[5];
    char p[5][128];
    for (size_t i = 0; i < 5; i++)
        keys[i] = some_key;
    snprintf(keys[1].model, sizeof keys[1].model, "m");
    snprintf(keys[2].machine, sizeof keys[2].machine, "m");
    snprintf(keys[3].engine, sizeof keys[3].engine, "m");
    keys[4].n_nodes++;
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(sx_profile_cache_path("/c", &keys[i], p[i], sizeof p[i], NULL), SX_OK);
        assert_memory_equal(p[i], "/c/profiles/", 12);
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(p[i], p[k]);
    }
    assert_int_equal(sx_profile_cache_path("/c", &keys[0], p[1], sizeof p[1], NULL), SX_OK);
    assert_string_equal(p[0], p[1]);
    assert_int_equal(sx_profile_cache_path("/c", &keys[0], p[1], 40, NULL), SX_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(put_sorts_replaces_and_scales),
        cmocka_unit_test(put_refuses_what_is_no_time),
        cmocka_unit_test(holes_are_filled_from_the_nearest_two),
        cmocka_unit_test(predictions_stay_sane),
        cmocka_unit_test(links_have_a_default),
        cmocka_unit_test_setup_teardown(comes_back_bit_for_bit, setup, remove_dir),
        cmocka_unit_test_setup_teardown(refuses_what_it_was_not_made_for, setup, remove_dir),
        cmocka_unit_test_setup_teardown(cut_off_anywhere_is_refused, setup, remove_dir),
        cmocka_unit_test_setup_teardown(changed_anywhere_does_no_harm, setup, remove_dir),
        cmocka_unit_test(place_in_the_cache_follows_the_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
