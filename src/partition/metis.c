/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * metis.c - staronnx-metis: METIS as a filter (metis_wire.h).
 *
 * Whatever goes wrong in here, a signal included, ends this process and no other.  Each run has a
 * child of its own again: METIS 5.1 reads before the beginning of an array on some graphs (k-way
 * by volume), and a run that dies of that shall not take the others along.  METIS prints to
 * standard output, so the reply goes to a copy of it, and standard output to nowhere.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <metis.h>

#include "partition/metis_wire.h"

_Static_assert(IDXTYPEWIDTH == 32 && REALTYPEWIDTH == 32, "the arrays are read as they are");

enum { BAD_REQUEST = 2, NO_MEMORY = 3, CANNOT_WRITE = 4 };

struct graph {
    struct sx_metis_request head;
    idx_t *xadj, *adjncy, *adjwgt, *vwgt, *vsize;
    real_t *tpwgts, *ubvec;
    bool connected;
};

static void get(void *to, size_t size)
{
    char *at = to;
    while (size > 0) {
        ssize_t n = read(STDIN_FILENO, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            _exit(BAD_REQUEST);
        at += n;
        size -= (size_t)n;
    }
}

static void put(int fd, const void *from, size_t size)
{
    const char *at = from;
    while (size > 0) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            _exit(CANNOT_WRITE);
        at += n;
        size -= (size_t)n;
    }
}

static void *array(size_t n)
{
    void *a = calloc(n + 1, 4); /* idx_t and real_t have four bytes */
    if (!a)
        _exit(NO_MEMORY);
    return a;
}

static void *get_array(size_t n)
{
    void *a = array(n);
    get(a, n * 4);
    return a;
}

static bool is_connected(const struct graph *g)
{
    idx_t n = g->head.n, seen = 1, top = 0, *stack = array((size_t)n), *mark = array((size_t)n);
    mark[0] = 1;
    stack[top++] = 0;
    while (top > 0) {
        idx_t v = stack[--top];
        for (idx_t i = g->xadj[v]; i < g->xadj[v + 1]; i++) {
            idx_t w = g->adjncy[i];
            if (!mark[w]) {
                mark[w] = 1;
                seen++;
                stack[top++] = w;
            }
        }
    }
    free(stack);
    free(mark);
    return seen == n;
}

static void get_graph(struct graph *g)
{
    struct sx_metis_request *h = &g->head;
    get(h, sizeof *h);
    if (memcmp(h->magic, SX_METIS_REQUEST, SX_METIS_MAGIC) != 0 || h->n < 1 ||
        h->n > SX_METIS_MAX_N || h->n_adjacent < 0 || h->n_weights < 1 || h->n_weights > 2 ||
        h->n_parts < 2 || h->n_parts > SX_METIS_MAX_PARTS || h->runs < 0 ||
        h->runs > SX_METIS_MAX_RUNS)
        _exit(BAD_REQUEST);
    size_t n = (size_t)h->n, weights = (size_t)h->n_weights;
    g->xadj = get_array(n + 1);
    g->adjncy = get_array((size_t)h->n_adjacent);
    g->adjwgt = get_array((size_t)h->n_adjacent);
    g->vwgt = get_array(n * weights);
    g->vsize = get_array(n);
    g->tpwgts = get_array((size_t)h->n_parts * weights);
    g->ubvec = get_array(weights);
    bool ordered = g->xadj[0] == 0 && g->xadj[n] == h->n_adjacent;
    for (size_t v = 0; v < n; v++)
        ordered &= g->xadj[v] <= g->xadj[v + 1];
    for (idx_t i = 0; ordered && i < h->n_adjacent; i++)
        ordered = g->adjncy[i] >= 0 && g->adjncy[i] < h->n;
    if (!ordered)
        _exit(BAD_REQUEST);
    g->connected = is_connected(g);
}

/* Four ways in turn: k-way by volume and by edges, in one piece each, recursive bisection, and
 * k-way by volume in as many pieces as it likes. */
static bool run(struct graph *g, int which, idx_t *part)
{
    idx_t options[METIS_NOPTIONS], n = g->head.n, weights = g->head.n_weights;
    idx_t parts = g->head.n_parts, cut = 0;
    METIS_SetDefaultOptions(options);
    options[METIS_OPTION_SEED] = (idx_t)((g->head.seed + (uint32_t)which) & 0x7fffffff);
    options[METIS_OPTION_NUMBERING] = 0;
    if (which % 4 == 1)
        return METIS_PartGraphRecursive(&n, &weights, g->xadj, g->adjncy, g->vwgt, NULL, g->adjwgt,
                                        &parts, g->tpwgts, g->ubvec, options, &cut,
                                        part) == METIS_OK;
    options[METIS_OPTION_OBJTYPE] = which % 4 == 2 ? METIS_OBJTYPE_CUT : METIS_OBJTYPE_VOL;
    options[METIS_OPTION_CONTIG] = which % 4 != 3 && g->connected;
    return METIS_PartGraphKway(&n, &weights, g->xadj, g->adjncy, g->vwgt, g->vsize, g->adjwgt,
                               &parts, g->tpwgts, g->ubvec, options, &cut, part) == METIS_OK;
}

/* One run in a child: did it end well?  ret_label is shared memory. */
static bool run_apart(struct graph *g, int which, idx_t *part, unsigned char *ret_label)
{
    int status;
    pid_t ended, pid = fork();
    if (pid == 0) {
        if (!run(g, which, part))
            _exit(EXIT_FAILURE);
        for (idx_t v = 0; v < g->head.n; v++)
            ret_label[v] = (unsigned char)part[v];
        _exit(EXIT_SUCCESS);
    }
    do
        ended = waitpid(pid, &status, 0);
    while (ended < 0 && errno == EINTR);
    return pid > 0 && ended == pid && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS;
}

int main(void)
{
    const struct rlimit no_core = {0, 0}, seconds = {120, 120};
    struct graph g = {0};
    int out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3), nowhere = open("/dev/null", O_WRONLY);
    if (out < 0 || nowhere < 0 || dup2(nowhere, STDOUT_FILENO) < 0)
        return CANNOT_WRITE;
    setrlimit(RLIMIT_CORE, &no_core);
    setrlimit(RLIMIT_CPU, &seconds); /* should nobody be left to end us */
    get_graph(&g);
    size_t n = (size_t)g.head.n;
    idx_t *part = array(n);
    unsigned char *label = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (label == MAP_FAILED)
        return NO_MEMORY;
    put(out, SX_METIS_REPLY, SX_METIS_MAGIC);
    for (int i = 0; i < g.head.runs; i++) {
        unsigned char worked = run_apart(&g, i, part, label);
        put(out, &worked, 1);
        put(out, label, n);
    }
    _exit(0); /* memory is the system's to free */
}
