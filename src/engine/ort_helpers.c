/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/ort_helpers.h"

#include <errno.h>
#include <limits.h>
#include <link.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/clock.h"

/* Ignored where nobody waits for it, so that one too many does no harm. */
#define REST_SIGNAL SIGURG
/* How long they spin at most.  ONNX Runtime lets them for a million pauses, of 25 to 70 ns each. */
#define SPIN_NS     (20 * SX_MS)

enum { RUNNING, SPINNING, AT_REST }; /* ort_helpers.h has the picture */

struct ort_spinners {
    pthread_mutex_t lock; /* who looks into helpers that it finds here has it, as they may end; a
                             leaf */
    _Atomic(struct ort_helpers *) on[CPU_SETSIZE];
};

struct ort_helper {
    pthread_t thread;
    struct ort_helpers *all;
    OrtThreadWorkerFn work;
    void *param;
};

struct ort_helpers {
    struct ort_spinners *spinners;
    unsigned width;
    unsigned n;            /* threads that ONNX Runtime asked for */
    atomic_uint state;     /* a futex, too: who is AT_REST waits for another state */
    atomic_bool timed;     /* `timer` is there */
    timer_t timer;         /* the first helper's */
    uintptr_t text[2];     /* the code that they spin in: from, to; from the first thread on */
    struct ort_helper *of; /* width - 1 */
    int cpus[];            /* of the caller and the helpers */
};

static _Thread_local struct ort_helper *mine;

static void call_to_rest(struct ort_helpers *h, unsigned first)
{
    for (unsigned i = first; i < h->n; i++)
        pthread_kill(h->of[i].thread, REST_SIGNAL);
}

/* Where a signal found its thread; 0: no idea. */
static uintptr_t interrupted_at(const void *context)
{
    const ucontext_t *c = context;
#if defined(__x86_64__)
    return (uintptr_t)c->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (uintptr_t)c->uc_mcontext.pc;
#else
    (void)c;
    return 0;
#endif
}

/* Sent by who claims a core, or by the timer to the first, which tells the others.
 *
 * Between runs a helper is in ONNX Runtime's loop, but just after one it may still be giving memory
 * back.  Then it may hold a lock of malloc's, and everybody would wait for a helper at rest.  So it
 * sleeps only where it is in ONNX Runtime's own code; elsewhere it goes on, and spins for once. */
static void on_signal(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)info;
    struct ort_helpers *h = mine ? mine->all : NULL;
    if (!h)
        return;
    int before = errno;
    unsigned spinning = SPINNING;
    if (atomic_compare_exchange_strong(&h->state, &spinning, AT_REST))
        call_to_rest(h, 1);
    uintptr_t at = interrupted_at(context);
    while (at >= h->text[0] && at < h->text[1] && atomic_load(&h->state) == AT_REST)
        syscall(SYS_futex, &h->state, FUTEX_WAIT_PRIVATE, AT_REST, NULL, NULL, 0);
    errno = before;
}

struct ort_spinners *sx_ort_spinners_create(void)
{
    struct ort_spinners *s = calloc(1, sizeof *s);
    if (s)
        pthread_mutex_init(&s->lock, NULL);
    return s;
}

void sx_ort_spinners_destroy(struct ort_spinners *s)
{
    if (!s)
        return;
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool have_signal;

static void take_signal(void)
{
    struct sigaction act = {.sa_sigaction = on_signal, .sa_flags = SA_RESTART | SA_SIGINFO}, now;
    if (sigaction(REST_SIGNAL, NULL, &now))
        return;
    have_signal = now.sa_handler == SIG_DFL && !sigaction(REST_SIGNAL, &act, NULL);
}

struct ort_helpers *sx_ort_helpers_create(struct ort_spinners *spinners, unsigned width,
                                          const int *cpus)
{
    pthread_once(&once, take_signal);
    if (!have_signal)
        return NULL;
    for (unsigned i = 0; i < width; i++) {
        if (cpus[i] < 0 || cpus[i] >= CPU_SETSIZE)
            return NULL;
    }
    struct ort_helpers *h = calloc(1, sizeof *h + width * sizeof *h->cpus);
    if (!h)
        return NULL;
    h->spinners = spinners;
    h->width = width;
    memcpy(h->cpus, cpus, width * sizeof *h->cpus);
    h->of = calloc(width - 1, sizeof *h->of);
    if (!h->of) {
        free(h);
        return NULL;
    }
    return h;
}

void sx_ort_helpers_destroy(struct ort_helpers *h)
{
    if (!h)
        return;
    if (atomic_load(&h->timed))
        timer_delete(h->timer);
    free(h->of);
    free(h);
}

static void make_timer(struct ort_helpers *h)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = REST_SIGNAL};
    event._sigev_un._tid = gettid();
    if (!timer_create(CLOCK_MONOTONIC, &event, &h->timer))
        atomic_store(&h->timed, true);
}

static void *helper_main(void *arg)
{
    struct ort_helper *h = arg;
    mine = h;
    sigset_t rest;
    sigemptyset(&rest);
    sigaddset(&rest, REST_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &rest, NULL);
    if (h == h->all->of)
        make_timer(h->all);
    h->work(h->param);
    return NULL;
}

/* Is this the library with the code at text[0]?  Then make text the bounds of all its code. */
static int find_text(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    uintptr_t *text = arg;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        uintptr_t to = from + info->dlpi_phdr[i].p_memsz;
        if (info->dlpi_phdr[i].p_type != PT_LOAD || !(info->dlpi_phdr[i].p_flags & PF_X) ||
            text[0] < from || text[0] >= to)
            continue;
        text[0] = from;
        text[1] = to;
        return 1;
    }
    return 0;
}

static OrtCustomThreadHandle create_thread(void *options, OrtThreadWorkerFn work, void *param)
{
    struct ort_helpers *all = options;
    if (all->n == all->width - 1)
        return NULL;
    struct ort_helper *h = &all->of[all->n];
    *h = (struct ort_helper){.all = all, .work = work, .param = param};
    if (!all->n) {
        memcpy(&all->text[0], &work, sizeof all->text[0]);
        dl_iterate_phdr(find_text, all->text);
    }
    if (pthread_create(&h->thread, NULL, helper_main, h))
        return NULL;
    all->n++;
    return (OrtCustomThreadHandle)(void *)h;
}

static void join_thread(OrtCustomThreadHandle handle)
{
    pthread_join(((struct ort_helper *)(void *)handle)->thread, NULL);
}

OrtStatus *sx_ort_helpers_use(struct ort_helpers *h, const OrtApi *api, OrtSessionOptions *options)
{
    OrtStatus *status = api->SessionOptionsSetCustomCreateThreadFn(options, create_thread);
    if (!status)
        status = api->SessionOptionsSetCustomThreadCreationOptions(options, h);
    if (!status)
        status = api->SessionOptionsSetCustomJoinThreadFn(options, join_thread);
    return status;
}

static void wake(struct ort_helpers *h)
{
    if (atomic_exchange(&h->state, RUNNING) == AT_REST)
        syscall(SYS_futex, &h->state, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void put_to_rest(struct ort_helpers *h)
{
    unsigned spinning = SPINNING;
    if (atomic_compare_exchange_strong(&h->state, &spinning, AT_REST))
        call_to_rest(h, 0);
}

/* Nobody has to put them to sleep any more.  The lock is held. */
static void forget(struct ort_helpers *h)
{
    for (unsigned i = 1; i < h->width; i++) {
        struct ort_helpers *old = h;
        atomic_compare_exchange_strong(&h->spinners->on[h->cpus[i]], &old, NULL);
    }
}

static void clear_core(struct ort_spinners *s, int cpu)
{
    pthread_mutex_lock(&s->lock);
    struct ort_helpers *other = atomic_load(&s->on[cpu]);
    if (other) {
        put_to_rest(other);
        forget(other);
    }
    pthread_mutex_unlock(&s->lock);
}

bool sx_ort_helpers_claim(struct ort_spinners *s, struct ort_helpers *h, const int *cpus,
                          unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct ort_helpers *other = atomic_load_explicit(&s->on[cpus[i]], memory_order_relaxed);
        if (other && other != h)
            clear_core(s, cpus[i]);
    }
    if (!h)
        return n == 1;
    int cpu = sched_getcpu();
    bool here = false; /* is the caller on a helper's core? */
    for (unsigned i = 1; i < n; i++) {
        atomic_store_explicit(&s->on[cpus[i]], h, memory_order_relaxed);
        here |= cpus[i] == cpu;
    }
    if (here && atomic_load(&h->state) == AT_REST)
        return false;
    wake(h);
    return true;
}

void sx_ort_helpers_begin(struct ort_helpers *h)
{
    wake(h);
}

void sx_ort_helpers_end(struct ort_helpers *h)
{
    const struct itimerspec rest = {.it_value.tv_nsec = SPIN_NS};
    atomic_store(&h->state, SPINNING);
    if (atomic_load(&h->timed))
        timer_settime(h->timer, 0, &rest, NULL);
}

void sx_ort_helpers_let_go(struct ort_helpers *h)
{
    pthread_mutex_lock(&h->spinners->lock);
    forget(h);
    pthread_mutex_unlock(&h->spinners->lock);
    wake(h);
}
