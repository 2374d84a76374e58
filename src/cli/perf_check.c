/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_check.c - what can be wrong with the command line of `staronnx perf`.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/perf_int.h"

#define MAX_SLOTS 65535 /* requests in flight */

static bool parse_arrivals(const struct sx_perf_args *p, struct sx_plan_load *l,
                           const struct sx_usage *u, int *code)
{
    l->seed = p->seed;
    l->shape = p->gamma_shape;
    if (strcmp(p->distribution, "poisson") == 0)
        l->kind = SX_ARRIVAL_POISSON;
    else if (strcmp(p->distribution, "constant") == 0)
        l->kind = SX_ARRIVAL_CONSTANT;
    else if (strcmp(p->distribution, "gamma") == 0)
        l->kind = SX_ARRIVAL_GAMMA;
    else
        *code = sx_usage_error(u, "--request-distribution '%s': constant, poisson or gamma",
                               p->distribution);
    return *code < 0;
}

/* A report that could not be written would only be known after the measurement. */
static int check_file(const struct sx_usage *u, const char *option, const char *path)
{
    char dir[4096];
    const char *slash = path ? strrchr(path, '/') : NULL;
    if (!path)
        return -1;
    int len = slash == path ? 1 : slash ? (int)(slash - path) : 1;
    snprintf(dir, sizeof dir, "%.*s", len, slash ? path : ".");
    if (access(path, F_OK) == 0 ? access(path, W_OK) == 0 : access(dir, W_OK) == 0)
        return -1;
    fprintf(stderr, "%s: %s %s: cannot be written: %s\n", u->name, option, path, strerror(errno));
    return SX_EXIT_INPUT;
}

/* What of these is said means nothing beside a model in this process. */
static const char *server_option(const struct sx_perf_args *p)
{
    return p->target.model          ? "-m"
           : p->target.version      ? "-x"
           : p->target.url          ? "-u"
           : p->priority            ? "--priority"
           : p->target.json_tensors ? "--json-tensors"
                                    : NULL;
}

/* 0: none of the three. */
static uint64_t trace_unit(const struct sx_perf_args *p)
{
    return strcmp(p->trace_unit, "ms") == 0   ? SX_MS
           : strcmp(p->trace_unit, "us") == 0 ? SX_US
           : strcmp(p->trace_unit, "s") == 0  ? SX_S
                                              : 0;
}

/* Numbers that no option's kind rules out. */
static int check_values(struct sx_perf_args *p, const struct sx_usage *u)
{
    if (p->percentile > 0 && p->percentile >= 100)
        return sx_usage_error(u, "--percentile %g is not below 100", p->percentile);
    if (p->target.batch == 0 || p->max_trials == 0)
        return sx_usage_error(u, "-b and -r are at least 1");
    if (p->connections == 0 || p->connections > MAX_SLOTS)
        return sx_usage_error(u, "--max-connections %llu is not from 1 to %d",
                              (unsigned long long)p->connections, MAX_SLOTS);
    if (p->gamma_shape <= 0)
        return sx_usage_error(u, "--gamma-shape must be above 0");
    if (p->timeout <= 0)
        return sx_usage_error(u, "--timeout must be above 0: who waits for ever measures nothing");
    if (strcmp(p->mode, "count_windows") == 0)
        p->window_requests = p->window_requests ? p->window_requests : 50;
    else if (strcmp(p->mode, "time_windows") != 0)
        return sx_usage_error(u, "--measurement-mode '%s': time_windows or count_windows", p->mode);
    if (p->interval_ms <= 0 && !p->window_requests)
        return sx_usage_error(u, "-p must be above 0: a window needs a length");
    if (!trace_unit(p))
        return sx_usage_error(u, "--trace-unit '%s': s, ms or us", p->trace_unit);
    return -1;
}

int sx_perf_check(struct sx_perf_args *p, const struct sx_usage *u, const struct sx_texts *operands,
                  struct sx_perf_asked *ret)
{
    int code = -1;
    bool whole_ok = sx_perf_range_parse(p->concurrency ? p->concurrency : "1", true, &ret->closed);
    int loads = (p->concurrency != NULL) + (p->rate != NULL) + (p->intervals != NULL) +
                (p->trace != NULL) + (p->trace_counts != NULL) + (p->scenario != NULL) +
                p->find_threshold;
    if (p->compare) {
        if (operands->count == 0 || !p->html)
            return sx_usage_error(u, "--compare takes JSON results and --html FILE");
        return -1;
    }
    if (operands->count > 1)
        return sx_usage_error(u, "one model at a time ('%s')", operands->item[1]);
    if (operands->count == 1)
        p->target.model_path = operands->item[0];
    if (p->target.model_path && server_option(p))
        return sx_usage_error(u, "%s is of a server, but '%s' runs in this process",
                              server_option(p), p->target.model_path);
    if (!p->target.url)
        p->target.url = "localhost:8000";
    if (!p->target.model && !p->target.model_path)
        return sx_usage_error(u,
                              "-m MODEL (on a server) or FILE.onnx (in this process) is missing");
    if (strcmp(p->protocol, "http") != 0)
        return sx_usage_error(u, "-i '%s': only http is supported", p->protocol);
    if (loads > 1)
        return sx_usage_error(u, "more than one kind of load");
    if (!whole_ok)
        return sx_usage_error(u, "--concurrency-range '%s' is not START[:END[:STEP]], from 1 up",
                              p->concurrency);
    if (p->rate && !sx_perf_range_parse(p->rate, false, &ret->open))
        return sx_usage_error(u, "--request-rate-range '%s' is not START[:END[:STEP]], upwards",
                              p->rate);
    if (p->scenario && !sx_scenario_find(p->scenario, &ret->scenario))
        return sx_usage_error(u, "--scenario '%s': SingleStream, MultiStream, Server or Offline",
                              p->scenario);
    bool judged = p->objective > 0 || p->latency > 0;
    if (!judged && (p->find_threshold || p->binary_search ||
                    (p->scenario && ret->scenario == SX_SCENARIO_SERVER)))
        return sx_usage_error(u, "a search needs --objective MS");
    const struct sx_perf_range *r = p->rate ? &ret->open : &ret->closed;
    if (p->binary_search && (r->end <= r->start || loads == 0 || (!p->rate && !p->concurrency)))
        return sx_usage_error(u, "--binary-search needs a range START:END");
    if (r->end <= 0 && p->latency <= 0)
        return sx_usage_error(u, "an open range ends at -l MS, which is missing");
    if (p->concurrency && (ret->closed.start > MAX_SLOTS || ret->closed.end > MAX_SLOTS))
        return sx_usage_error(u, "--concurrency-range %s: at most %d", p->concurrency, MAX_SLOTS);
    if ((code = check_values(p, u)) >= 0 || (code = check_file(u, "-o", p->json_file)) >= 0 ||
        (code = check_file(u, "-f", p->csv)) >= 0 || (code = check_file(u, "--html", p->html)) >= 0)
        return code;
    if (!parse_arrivals(p, &ret->arrivals, u, &code))
        return code;
    uint32_t slots = (uint32_t)p->connections;
    if (!p->rate && !p->intervals && !p->trace && !p->trace_counts && !p->scenario &&
        !p->find_threshold && ret->closed.end > 0)
        slots = (uint32_t)ret->closed.end;
    p->target.slots = slots;
    ret->trace_unit = trace_unit(p);
    return -1;
}
