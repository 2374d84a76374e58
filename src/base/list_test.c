/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * list_test.c - intrusive lists against an array.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/list.h"
#include "base/rng.h"

struct item {
    int value;
    struct sx_list link;
};

static void check(struct sx_list *head, const int *want, size_t n)
{
    size_t i = 0;
    SX_LIST_FOREACH (it, head) {
        assert_true(i < n);
        assert_int_equal(SX_CONTAINER_OF(it, struct item, link)->value, want[i]);
        assert_ptr_equal(it->next->prev, it);
        i++;
    }
    assert_int_equal(i, n);
    assert_int_equal(sx_list_empty(head), n == 0);
}

static void test_random_edits(void **state)
{
    (void)state;
    enum { N = 32 };
    struct item items[N];
    struct sx_list head;
    int model[N];
    size_t n = 0;
    struct sx_rng rng;
    sx_rng_init(&rng, 1);
    sx_list_init(&head);
    for (int i = 0; i < N; i++) {
        items[i].value = i;
        sx_list_init(&items[i].link);
    }
    for (int step = 0; step < 5000; step++) {
        int v = (int)sx_rng_below(&rng, N);
        size_t at = 0;
        while (at < n && model[at] != v)
            at++;
        if (at < n) {
            sx_list_remove(&items[v].link);
            sx_list_remove(&items[v].link); // twice is fine
            memmove(model + at, model + at + 1, (n - at - 1) * sizeof *model);
            n--;
        } else {
            size_t pos = (size_t)sx_rng_below(&rng, n + 1);
            sx_list_insert(pos == n ? &head : &items[model[pos]].link, &items[v].link);
            memmove(model + pos + 1, model + pos, (n - pos) * sizeof *model);
            model[pos] = v;
            n++;
        }
        check(&head, model, n);
    }
}

static void test_splice(void **state)
{
    (void)state;
    struct item items[4];
    struct sx_list a, b;
    sx_list_init(&a);
    sx_list_init(&b);
    for (int i = 0; i < 4; i++) {
        items[i].value = i;
        sx_list_insert(i < 2 ? &a : &b, &items[i].link);
    }
    sx_list_splice(&a, &b);
    check(&a, (const int[]){0, 1, 2, 3}, 4);
    check(&b, NULL, 0);
    sx_list_splice(&a, &b); // from empty
    check(&a, (const int[]){0, 1, 2, 3}, 4);
    sx_list_splice(&b, &a); // to empty
    check(&b, (const int[]){0, 1, 2, 3}, 4);
}

static void test_remove_in_loop(void **state)
{
    (void)state;
    struct item items[6];
    struct sx_list head;
    sx_list_init(&head);
    for (int i = 0; i < 6; i++) {
        items[i].value = i;
        sx_list_insert(&head, &items[i].link);
    }
    SX_LIST_FOREACH_SAFE (it, &head) {
        if (SX_CONTAINER_OF(it, struct item, link)->value % 2)
            sx_list_remove(it);
    }
    check(&head, (const int[]){0, 2, 4}, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_edits),
        cmocka_unit_test(test_splice),
        cmocka_unit_test(test_remove_in_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
