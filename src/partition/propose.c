/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * propose.c - asks METIS, in a process of its own.
 *
 * The helper's standard input and output are one socket, not pipes, so that writing to a helper
 * that is gone is an error and not a signal.  We write and read as it goes, until the reply is
 * complete or the time is over; then the helper is ended, with whatever it started.  Its end is
 * awaited on a pidfd, so nothing here changes signal handlers, and other threads and
 * children of the process don't matter.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "partition/metis.h"
#include "partition/metis_wire.h"
#include "partition/part_int.h"

#define HELPER      "staronnx-metis"
#define LIMIT_NS    (3 * SX_S) /* for a small graph */
#define LIMIT_NS_V  (50 * SX_US)
#define SUM_LIMIT   1e9   /* of weights: METIS adds them in 32 bits */
#define LEAST_SHARE 0.001 /* of a part: METIS divides by it */

extern char **environ;

/* --- where the helper is --- */

static bool is_program(const char *path)
{
    return access(path, X_OK) == 0;
}

/* $STARONNX_METIS; beside this program; in the folder above, as in a build directory; where it was
 * installed. */
static enum sx_rc find_helper(char *path, size_t size, struct sx_err *err)
{
    const char *named = getenv("STARONNX_METIS");
    if (named && *named) {
        snprintf(path, size, "%s", named);
        return SX_OK;
    }
    char own[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
    for (int up = 0; n > 0 && up < 2; up++) {
        own[n] = 0;
        char *slash = strrchr(own, '/');
        if (!slash)
            break;
        n = slash - own;
        *slash = 0;
        if (snprintf(path, size, "%s/%s", own, HELPER) < (int)size && is_program(path))
            return SX_OK;
    }
    snprintf(path, size, "%s/%s", SX_LIBEXECDIR, HELPER);
    if (is_program(path))
        return SX_OK;
    sx_fail(err, SX_UNSUPPORTED, "the program %s was not found", HELPER);
    sx_hint(err, "set STARONNX_METIS to its path");
    return SX_UNSUPPORTED;
}

/* --- the request --- */

struct request {
    char *data;
    size_t size;
};

/* Neighbours of all vertices, each once with the bytes between: star-shaped, from each tensor's
 * producer to its readers, so as large as the graph and not the square of it. */
struct adjacent {
    uint32_t *at, *vertex, *mark, n;
    double *bytes;
};

static void add_edge(struct adjacent *a, uint32_t v, uint32_t w, double bytes)
{
    if (a->mark[w] == SX_PART_NONE || a->mark[w] < a->at[v]) {
        a->mark[w] = a->n++;
        a->vertex[a->mark[w]] = w;
        a->bytes[a->mark[w]] = 0;
    }
    a->bytes[a->mark[w]] += bytes;
}

static void adjacent_fini(struct adjacent *a)
{
    free(a->at);
    free(a->vertex);
    free(a->mark);
    free(a->bytes);
}

static enum sx_rc adjacent_init(struct adjacent *a, const struct sx_part_graph *g)
{
    size_t most = 2 * (size_t)g->use_at[g->n_tensors] + 1;
    *a = (struct adjacent){
        .at = malloc((g->n + 1ul) * sizeof *a->at),
        .vertex = malloc(most * sizeof *a->vertex),
        .mark = malloc(g->n * sizeof *a->mark),
        .bytes = malloc(most * sizeof *a->bytes),
    };
    if (!a->at || !a->vertex || !a->mark || !a->bytes) {
        adjacent_fini(a);
        return SX_NO_MEMORY;
    }
    for (uint32_t v = 0; v < g->n; v++)
        a->mark[v] = SX_PART_NONE;
    for (uint32_t v = 0; v < g->n; v++) {
        a->at[v] = a->n;
        for (uint32_t t = g->out_at[v]; t < g->out_at[v + 1]; t++) {
            for (uint32_t i = g->use_at[t]; i < g->use_at[t + 1]; i++)
                add_edge(a, v, g->uses[i], g->bytes[t]);
        }
        for (uint32_t i = g->in_at[v]; i < g->in_at[v + 1]; i++)
            add_edge(a, v, g->producer[g->ins[i]], g->bytes[g->ins[i]]);
    }
    a->at[g->n] = a->n;
    return SX_OK;
}

static int32_t scaled(double x, double all)
{
    return all > 0 ? (int32_t)lrint(x / all * SUM_LIMIT) : 0;
}

/* How much of the work and of the memory each stage shall have. */
static void find_shares(const struct sx_part_graph *g, double all_memory, unsigned n_weights,
                        float *ret_share, float *ret_slack)
{
    const struct sx_part_problem *p = g->problem;
    double speed[SX_PART_MAX_STAGES], room[SX_PART_MAX_STAGES], speeds = 0, rooms = 0;
    for (unsigned s = 0; s < g->k; s++) {
        double ns = 0, work = 0;
        for (uint32_t v = 0; v < g->n; v++) {
            double here = g->ns[(size_t)s * g->n + v];
            ns += isinf(here) ? 0 : here;
            work += isinf(here) ? 0 : g->work[v]; /* how much of all it could do */
        }
        speed[s] = ns > 0 ? work / ns : 0;
        room[s] =
            p->memory_limit && p->memory_limit[s] < all_memory ? p->memory_limit[s] : all_memory;
        rooms += room[s];
    }
    for (unsigned s = 0; s < g->k; s++)
        speeds += speed[s];
    double sums[2] = {0, 0};
    for (unsigned s = 0; s < g->k; s++) {
        double share[2] = {speeds > 0 ? speed[s] / speeds : 1.0 / g->k,
                           rooms > 0 ? room[s] / rooms : 1.0 / g->k};
        for (unsigned w = 0; w < n_weights; w++) {
            ret_share[s * n_weights + w] = (float)fmax(share[w], LEAST_SHARE);
            sums[w] += ret_share[s * n_weights + w];
        }
    }
    for (unsigned i = 0; i < g->k * n_weights; i++)
        ret_share[i] = (float)(ret_share[i] / sums[i % n_weights]);
    ret_slack[0] = 1.03F; /* METIS's own for k-way */
    if (n_weights == 2)
        ret_slack[1] = (float)fmax(1.03, all_memory > 0 ? rooms / all_memory : 1.03);
}

static enum sx_rc make_request(const struct sx_part_graph *g, uint64_t seed, unsigned runs,
                               struct request *ret_request)
{
    struct adjacent a;
    unsigned n_weights = g->memory ? 2 : 1;
    double all_bytes = 0, all_memory = 0;
    enum sx_rc rc = adjacent_init(&a, g);
    if (rc != SX_OK)
        return rc;
    struct sx_metis_request head = {
        .n = (int32_t)g->n,
        .n_adjacent = (int32_t)a.n,
        .n_weights = (int32_t)n_weights,
        .n_parts = (int32_t)g->k,
        .runs = (int32_t)runs,
        .seed = (uint32_t)(seed * 1000),
    };
    memcpy(head.magic, SX_METIS_REQUEST, SX_METIS_MAGIC);
    size_t words = (g->n + 1ul) + 2ul * a.n + (size_t)n_weights * g->n + g->n +
                   (size_t)n_weights * g->k + n_weights;
    ret_request->size = sizeof head + 4 * words;
    ret_request->data = malloc(ret_request->size);
    if (!ret_request->data) {
        adjacent_fini(&a);
        return SX_NO_MEMORY;
    }
    memcpy(ret_request->data, &head, sizeof head);
    int32_t *to = (int32_t *)(void *)(ret_request->data + sizeof head);
    for (uint32_t v = 0; v <= g->n; v++)
        *to++ = (int32_t)a.at[v];
    for (uint32_t i = 0; i < a.n; i++)
        *to++ = (int32_t)a.vertex[i];
    for (uint32_t i = 0; i < a.n; i++)
        all_bytes += a.bytes[i];
    for (uint32_t i = 0; i < a.n; i++)
        *to++ = 1 + scaled(a.bytes[i], all_bytes); /* METIS wants no zeros here */
    for (uint32_t v = 0; g->memory && v < g->n; v++)
        all_memory += g->memory[v];
    for (uint32_t v = 0; v < g->n; v++) {
        *to++ = scaled(g->work[v], 1);
        if (g->memory)
            *to++ = scaled(g->memory[v], all_memory);
    }
    for (uint32_t v = 0; v < g->n; v++) {
        double bytes = 0;
        for (uint32_t t = g->out_at[v]; t < g->out_at[v + 1]; t++)
            bytes += g->bytes[t];
        *to++ = 1 + scaled(bytes, all_bytes);
    }
    float share[2 * SX_PART_MAX_STAGES], slack[2];
    find_shares(g, all_memory, n_weights, share, slack);
    memcpy(to, share, (size_t)n_weights * g->k * sizeof share[0]);
    memcpy(to + (size_t)n_weights * g->k, slack, n_weights * sizeof slack[0]);
    adjacent_fini(&a);
    return SX_OK;
}

/* --- the child --- */

struct child {
    pid_t pid;
    int socket, pidfd;
    uint64_t end; /* of our patience */
};

static enum sx_rc start(const char *helper, struct child *c, struct sx_err *err)
{
    char *argv[] = {(char *)helper, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return sx_fail(err, SX_UNSUPPORTED, "no socket for %s: %s", helper, strerror(errno));
    sigemptyset(&none);
    sigfillset(&all);
    int error = posix_spawn_file_actions_init(&actions);
    if (error == 0) {
        error = posix_spawnattr_init(&attributes);
        if (error == 0) {
            posix_spawn_file_actions_adddup2(&actions, ends[1], STDIN_FILENO);
            posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
            posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
            posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                      POSIX_SPAWN_SETPGROUP);
            posix_spawnattr_setsigmask(&attributes, &none);
            posix_spawnattr_setsigdefault(&attributes, &all);
            posix_spawnattr_setpgroup(&attributes, 0);
            error = posix_spawn(&c->pid, helper, &actions, &attributes, argv, environ);
            posix_spawnattr_destroy(&attributes);
        }
        posix_spawn_file_actions_destroy(&actions);
    }
    close(ends[1]);
    if (error != 0) {
        close(ends[0]);
        return sx_fail(err, SX_UNSUPPORTED, "cannot start %s: %s", helper, strerror(error));
    }
    c->socket = ends[0];
    c->pidfd = pidfd_open(c->pid, 0); /* fails in old kernels; then it is killed when it is done */
    return SX_OK;
}

/* Milliseconds left, rounded up; 0: none. */
static int patience(const struct child *c)
{
    uint64_t now = sx_now();
    return now >= c->end ? 0 : (int)((c->end - now + SX_MS - 1) / SX_MS);
}

/* Wait until the helper has ended by itself or its time is over. */
static bool ends_in_time(const struct child *c)
{
    struct pollfd poll_end = {.fd = c->pidfd, .events = POLLIN};
    int left, n = 0;
    while (c->pidfd >= 0 && n <= 0 && (left = patience(c)) > 0) {
        n = poll(&poll_end, 1, left);
        if (n < 0 && errno != EINTR)
            break;
    }
    return n > 0;
}

/* End it if it has not ended, and say how it ended: true when by itself and well. */
static bool finish(struct child *c, bool wait_for_it, struct sx_err *why)
{
    int status = 0;
    pid_t ended;
    bool by_itself = wait_for_it && ends_in_time(c), well = !wait_for_it || c->pidfd < 0;
    kill(-c->pid, SIGKILL); /* and what it may have started */
    kill(c->pid, SIGKILL);
    do
        ended = waitpid(c->pid, &status, 0);
    while (ended < 0 && errno == EINTR);
    if (by_itself && ended == c->pid) { /* not ours where the process ignores SIGCHLD */
        well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        if (WIFSIGNALED(status))
            sx_fail(why, SX_UNSUPPORTED, "it was ended by signal %d (%s)", WTERMSIG(status),
                    strsignal(WTERMSIG(status)));
        else if (!well)
            sx_fail(why, SX_UNSUPPORTED, "it ended with status %d", WEXITSTATUS(status));
    } else if (by_itself) {
        well = true;
    } else if (!well) {
        sx_fail(why, SX_UNSUPPORTED, "it took too long");
    }
    if (c->pidfd >= 0)
        close(c->pidfd);
    close(c->socket);
    return well;
}

/* Send all, receive exactly `size` bytes and the end. */
static enum sx_rc talk(const struct child *c, const struct request *request, char *reply,
                       size_t size, bool *ret_closed, struct sx_err *why)
{
    size_t sent = 0, got = 0;
    char more;
    *ret_closed = false;
    for (;;) {
        struct pollfd p = {.fd = c->socket, .events = POLLIN};
        int left = patience(c), n;
        p.events |= sent < request->size ? POLLOUT : 0;
        if (left == 0)
            return sx_fail(why, SX_UNSUPPORTED, "it took too long");
        n = poll(&p, 1, left);
        if (n < 0 && errno != EINTR)
            return sx_fail(why, SX_UNSUPPORTED, "poll: %s", strerror(errno));
        if (n <= 0)
            continue;
        if (p.revents & POLLOUT && sent < request->size) {
            ssize_t done = send(c->socket, request->data + sent, request->size - sent,
                                MSG_NOSIGNAL | MSG_DONTWAIT);
            if (done > 0)
                sent += (size_t)done;
            else if (done < 0 && errno != EAGAIN && errno != EINTR)
                sent = request->size; /* it reads no more: what it says decides */
        }
        if (!(p.revents & (POLLIN | POLLHUP | POLLERR)))
            continue;
        bool full = got == size;
        ssize_t done =
            recv(c->socket, full ? &more : reply + got, full ? 1 : size - got, MSG_DONTWAIT);
        if (done < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (done <= 0) {
            *ret_closed = true;
            return full ? SX_OK
                        : sx_fail(why, SX_UNSUPPORTED, "it wrote %zu bytes of %zu", got, size);
        }
        if (full)
            return sx_fail(why, SX_UNSUPPORTED, "it wrote more than it was asked for");
        got += (size_t)done;
    }
}

static enum sx_rc read_reply(const struct sx_part_graph *g, const char *reply, unsigned runs,
                             uint8_t *ret_parts, size_t *ret_n, struct sx_err *why)
{
    if (memcmp(reply, SX_METIS_REPLY, SX_METIS_MAGIC) != 0)
        return sx_fail(why, SX_UNSUPPORTED, "its answer is garbage");
    reply += SX_METIS_MAGIC;
    *ret_n = 0;
    for (unsigned i = 0; i < runs; i++, reply += g->n + 1) {
        const uint8_t *label = (const uint8_t *)reply + 1;
        if (reply[0] != 1)
            continue;
        for (uint32_t v = 0; v < g->n; v++) {
            if (label[v] >= g->k)
                return sx_fail(why, SX_UNSUPPORTED, "it put an operator into part %u of %u",
                               label[v], g->k);
        }
        memcpy(ret_parts + (*ret_n)++ * g->n, label, g->n);
    }
    if (*ret_n == 0)
        return sx_fail(why, SX_UNSUPPORTED, "METIS refused the graph");
    return SX_OK;
}

enum sx_rc sx_part_metis(const struct sx_part_graph *g, const char *helper, uint64_t seed,
                         unsigned runs, uint8_t **ret_parts, size_t *ret_n, struct sx_err *err)
{
    char path[PATH_MAX];
    struct request request = {0};
    struct child child;
    struct sx_err why = {0}, how = {0};
    uint8_t *parts = NULL;
    char *reply = NULL;
    size_t size = SX_METIS_MAGIC + (size_t)runs * (g->n + 1ul);
    enum sx_rc rc = SX_OK;
    if (g->n > SX_METIS_MAX_N || g->use_at[g->n_tensors] > INT32_MAX / 4)
        return sx_fail(err, SX_UNSUPPORTED, "%u operators are too many for METIS", g->n);
    if (helper)
        snprintf(path, sizeof path, "%s", helper);
    else
        rc = find_helper(path, sizeof path, err);
    if (rc != SX_OK)
        return rc;
    reply = malloc(size);
    parts = malloc((size_t)runs * g->n);
    rc = reply && parts ? make_request(g, seed, runs, &request) : SX_NO_MEMORY;
    if (rc == SX_NO_MEMORY) {
        sx_fail(err, rc, "no memory to ask METIS about %u operators", g->n);
        goto out;
    }
    rc = start(path, &child, err);
    if (rc != SX_OK)
        goto out;
    child.end = sx_now() + LIMIT_NS + g->n * LIMIT_NS_V;
    bool closed;
    rc = talk(&child, &request, reply, size, &closed, &why);
    /* how it ended says more than that its answer is not complete */
    if (!finish(&child, closed, &how)) {
        rc = SX_UNSUPPORTED;
        why = how;
    }
    if (rc == SX_OK)
        rc = read_reply(g, reply, runs, parts, ret_n, &why);
    if (rc != SX_OK) {
        sx_fail(err, rc, "%s: %s", path, why.message);
    } else {
        *ret_parts = parts;
        parts = NULL;
    }
out:
    free(request.data);
    free(reply);
    free(parts);
    return rc;
}

enum sx_rc sx_metis_propose(const struct sx_part_problem *problem, const char *helper,
                            uint64_t seed, uint32_t **ret_parts, size_t cap, size_t *ret_n,
                            struct sx_err *err)
{
    struct sx_part_graph g;
    uint8_t *parts = NULL;
    size_t n = 0, made = 0;
    enum sx_rc rc = sx_part_check(problem, err);
    if (rc == SX_OK)
        rc = sx_part_graph_init(&g, problem, err);
    if (rc != SX_OK)
        return rc;
    unsigned runs = cap < SX_METIS_MAX_RUNS ? (unsigned)cap : SX_METIS_MAX_RUNS;
    if (g.k < 2)
        rc = sx_fail(err, SX_UNSUPPORTED, "METIS makes two parts or more");
    else
        rc = sx_part_metis(&g, helper, seed, runs, &parts, &n, err);
    for (; rc == SX_OK && made < n; made++) {
        uint32_t *label = malloc(problem->n_nodes * sizeof *label);
        if (!label) {
            rc = sx_fail(err, SX_NO_MEMORY, "no memory for METIS's partitions");
            break;
        }
        for (uint32_t v = 0; v < problem->n_nodes; v++)
            label[v] = parts[made * g.n + g.of_node[v]];
        ret_parts[made] = label;
    }
    for (size_t i = 0; rc != SX_OK && i < made; i++)
        free(ret_parts[i]);
    if (rc == SX_OK)
        *ret_n = made;
    free(parts);
    sx_part_graph_fini(&g);
    return rc;
}
