/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/* Sessions whose helpers stay awake between runs, and claims of their cores. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "base/memory_test.h"
#include "engine/engine_test.h"

#define SIDE 256

/* y = x @ w, enough work for ONNX Runtime to divide it. */
static void make_models(void)
{
    static float w[SIDE * SIDE];
    struct mk mk;
    for (int i = 0; i < SIDE * SIDE; i++)
        w[i] = (float)(i * 37 % 101) / 101 - 0.5f;
    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "-1,256");
    mk_constant(&mk, "w", MK_FLOAT, "256,256", w, sizeof w);
    mk_node(&mk, "MatMul", "x,w", "y");
    mk_output(&mk, "y", MK_FLOAT, "-1,256");
    put_onnx(&mk, "product");
    put_fake("product", "input x FP32 -1 256\noutput y FP32 -1 256\n");
}

/* The first n CPUs that we may use; fewer are used again. */
static unsigned find_cpus(int *cpus, unsigned n)
{
    cpu_set_t set;
    unsigned found = 0;
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    for (int c = 0; c < CPU_SETSIZE && found < n; c++) {
        if (CPU_ISSET((unsigned)c, &set))
            cpus[found++] = c;
    }
    for (unsigned i = found; i < n; i++)
        cpus[i] = cpus[i % found];
    return found;
}

static struct sx_session *awake(struct sx_engine_model *m, unsigned width, const int *cpus)
{
    struct sx_session *s = NULL;
    struct sx_err err = {0};
    if (sx_session_create_awake(m, width, cpus, &s, &err))
        fail_msg("%s", err.message);
    return s;
}

/* A claim, and a run whose result is as it was the first time. */
static void claim_and_run(struct sx_session *s, const struct sx_tensor *x, struct sx_tensor *first)
{
    struct sx_tensor y = {0};
    sx_session_claim(s);
    run_ok(s, x, &y);
    if (!first->data) {
        sx_tensor_move(first, &y);
        return;
    }
    assert_int_equal(y.nbytes, first->nbytes);
    for (size_t i = 0; i < y.nbytes / sizeof(float); i++) {
        float a = ((float *)y.data)[i], b = ((float *)first->data)[i];
        assert_true(a - b < 1e-3f && b - a < 1e-3f);
    }
    sx_tensor_unref(&y);
}

/* Two models whose sessions take each other's cores away, in every order of two, with pauses that
 * helpers spin or sleep through. */
static void test_turns(void **state)
{
    (void)state;
    enum { WIDTHS = 3, N = 2 * WIDTHS };
    const int64_t dims[] = {SIDE, SIDE};
    int cpus[WIDTHS];
    find_cpus(cpus, WIDTHS);
    struct sx_engine_model *m[2];
    struct sx_session *s[N];
    struct sx_tensor x = floats(dims, 2, 0.25f), y = {0};
    for (size_t i = 0; i < x.nbytes / sizeof(float); i++)
        ((float *)x.data)[i] = (float)(i % 7) / 7;
    for (unsigned i = 0; i < 2; i++) {
        m[i] = open_at(engine, path_of("product"));
        for (unsigned w = 0; w < WIDTHS; w++)
            s[i * WIDTHS + w] = awake(m[i], w + 1, cpus);
    }
    struct timespec pause = {0};
    for (unsigned round = 0; round < 4; round++) {
        pause.tv_nsec = round == 3 ? 30 * 1000 * 1000 : round * 300 * 1000;
        for (unsigned i = 0; i < N * N; i++) {
            claim_and_run(s[i / N], &x, &y);
            claim_and_run(s[i % N], &x, &y);
            if (round < 3 || i % N == 0)
                nanosleep(&pause, NULL); /* how late the next one comes; nobody is waited for */
        }
    }
    for (unsigned i = 0; i < N; i++) { /* some are at rest */
        sx_session_claim(s[(i + 1) % N]);
        sx_session_destroy(s[i]);
        s[i] = awake(m[i / WIDTHS], i % WIDTHS + 1, cpus);
    }
    for (unsigned i = 0; i < N; i++) {
        run_ok(s[i], &x,
               &(struct sx_tensor){.data = y.data,
                                   .dtype = y.dtype,
                                   .rank = y.rank,
                                   .dims = {SIDE, SIDE},
                                   .nbytes = y.nbytes});
        sx_session_destroy(s[i]); /* unclaimed, and while its helpers spin */
    }
    sx_tensor_unref(&x);
    sx_tensor_unref(&y);
    sx_engine_close_model(m[0]);
    sx_engine_close_model(m[1]);
}

/* Sessions end, as those of a model that is unloaded, while others claim their cores. */
struct ending {
    pthread_mutex_t cores; /* who runs on them */
    struct sx_engine_model *model;
    int cpus[2];
    unsigned bad;
};

static void *end_sessions(void *arg)
{
    struct ending *e = arg;
    const int64_t dims[] = {SIDE, SIDE};
    struct sx_tensor x = {0};
    if (sx_tensor_alloc(&x, pool, SX_FP32, dims, 2))
        return NULL;
    memset(x.data, 0, x.nbytes);
    for (unsigned i = 0; i < 100; i++) {
        struct sx_session *s = NULL;
        struct sx_tensor y = {0};
        if (sx_session_create_awake(e->model, 2, e->cpus, &s, NULL)) {
            e->bad++;
            break;
        }
        pthread_mutex_lock(&e->cores);
        sx_session_claim(s);
        e->bad += sx_session_run(s, &x, &y, NULL, NULL) != SX_OK;
        pthread_mutex_unlock(&e->cores);
        sx_session_destroy(s);
        sx_tensor_unref(&y);
    }
    sx_tensor_unref(&x);
    return NULL;
}

static void test_ends(void **state)
{
    (void)state;
    const int64_t dims[] = {SIDE, SIDE};
    struct ending e = {.cores = PTHREAD_MUTEX_INITIALIZER};
    find_cpus(e.cpus, 2);
    e.model = open_at(engine, path_of("product"));
    struct sx_session *narrow = awake(e.model, 1, &e.cpus[1]);
    struct sx_tensor x = floats(dims, 2, 0), y = {0};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, end_sessions, &e), 0);
    for (unsigned i = 0; i < 2000; i++) {
        pthread_mutex_lock(&e.cores);
        claim_and_run(narrow, &x, &y);
        pthread_mutex_unlock(&e.cores);
        sched_yield();
    }
    pthread_join(thread, NULL);
    assert_int_equal(e.bad, 0);
    sx_tensor_unref(&x);
    sx_tensor_unref(&y);
    sx_session_destroy(narrow);
    sx_engine_close_model(e.model);
}

static void on_urgent(int sig)
{
    (void)sig;
}

/* In a program that handles the signal itself it stays so, and helpers sleep between runs.  In a
 * process of its own, as who has the signal is asked once. */
static int child(void)
{
    const int64_t dims[] = {SIDE, SIDE};
    int cpus[2];
    find_cpus(cpus, 2);
    signal(SIGURG, on_urgent);
    engine = engine_with("ort", NULL, false);
    struct sx_engine_model *m = open_at(engine, path_of("product"));
    struct sx_session *wide = awake(m, 2, cpus), *narrow = awake(m, 1, &cpus[1]);
    struct sx_tensor x = floats(dims, 2, 0), y = {0}, z = {0};
    bool ok = !sx_session_claim(wide);
    run_ok(wide, &x, &y);
    ok = sx_session_claim(narrow) && ok;
    run_ok(narrow, &x, &z);
    sx_session_destroy(wide);
    sx_session_destroy(narrow);
    struct sigaction now;
    ok = !sigaction(SIGURG, NULL, &now) && now.sa_handler == on_urgent && ok;
    return ok ? 0 : 1;
}

static void test_signal_taken(void **state)
{
    (void)state;
    which = "ort";
    fflush(NULL);
    pid_t pid = fork();
    if (!pid)
        _exit(child());
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

#ifndef SX_SANITIZED /* TSan keeps signals back for a while */
static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* CPU time of this process while nobody asks it for anything. */
static double idle_cpu_ms(unsigned ms)
{
    struct timespec pause = {.tv_nsec = (long)ms * 1000 * 1000};
    double before = cpu_ms();
    nanosleep(&pause, NULL); /* what is measured */
    return cpu_ms() - before;
}

static void go_to(int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((unsigned)cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
}

/* Helpers spin after a run, not for ever, and not once somebody else claims their core. */
static void test_ort_rest(void **state)
{
    (void)state;
    const int64_t dims[] = {SIDE, SIDE};
    int cpus[2];
    if (find_cpus(cpus, 2) < 2)
        skip();
    struct sx_engine_model *m = open_at(engine, path_of("product"));
    struct sx_session *wide = awake(m, 2, cpus), *narrow = awake(m, 1, &cpus[1]);
    struct sx_tensor x = floats(dims, 2, 0), y = {0};
    cpu_set_t before;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    go_to(cpus[0]);
    double spun = 0, rested = 0, slept = 0;
    for (unsigned i = 0; i < 20; i++) {
        claim_and_run(wide, &x, &y);
        spun += idle_cpu_ms(10);
        slept += idle_cpu_ms(50) > 25;
        claim_and_run(wide, &x, &y);
        assert_true(sx_session_claim(narrow));
        rested += idle_cpu_ms(10);
        go_to(cpus[1]); /* to wake them would cost this thread its core */
        assert_false(sx_session_claim(wide));
        go_to(cpus[0]);
        assert_true(sx_session_claim(wide));
    }
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    if (rested > 20 || spun < 2 * rested || slept > 2)
        fail_msg("in 200 ms helpers spun for %.1f ms, and at rest for %.1f; %.0f of 20 did not end",
                 spun, rested, slept);
    sx_tensor_unref(&x);
    sx_tensor_unref(&y);
    sx_session_destroy(wide);
    sx_session_destroy(narrow);
    sx_engine_close_model(m);
}
#endif

static int setup(void **state)
{
    (void)state;
    if (make_dir())
        return 1;
    make_models();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signal_taken), /* first: no thread and no library is there */
        BOTH(test_turns),
        BOTH(test_ends),
#ifndef SX_SANITIZED
        ORT(test_ort_rest),
#endif
    };
    return cmocka_run_group_tests(tests, setup, drop_dir);
}
