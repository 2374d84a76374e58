/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroup.c - what share of the machine the control group leaves us.
 *
 * A group's limit holds for everything below it, so the smallest one on the way from our group
 * up to the root counts.  Inside a container, the path in /proc/self/cgroup may be the
 * host's and not exist here; then the root of the mount is our group.
 */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "machine/machine_int.h"

/* The first line of ROOT/sys/fs/cgroup/PREFIX/GROUP/NAME. */
static bool read_line(const char *root, const char *prefix, const char *group, const char *name,
                      char *line, size_t size)
{
    char *path = NULL;
    if (asprintf(&path, "%s/sys/fs/cgroup%s%s/%s", root, prefix, group, name) < 0)
        return false;
    FILE *f = fopen(path, "re");
    free(path);
    if (!f)
        return false;
    bool ok = fgets(line, (int)size, f) != NULL;
    fclose(f);
    return ok;
}

static void lower_cores(double *cores, double quota, double period)
{
    if (quota > 0 && period > 0 && isfinite(quota / period) &&
        (*cores == 0 || quota / period < *cores))
        *cores = quota / period;
}

static void lower_memory(uint64_t *memory, const char *line)
{
    char *end;
    unsigned long long v = strtoull(line, &end, 10);
    /* version 1 writes a huge number for "no limit" */
    if (end != line && v && v < (UINT64_C(1) << 60) && (!*memory || v < *memory))
        *memory = v;
}

static void look_v2(const char *root, const char *group, double *cores, uint64_t *memory)
{
    char line[128];
    double quota, period;
    if (read_line(root, "", group, "cpu.max", line, sizeof(line)) &&
        sscanf(line, "%lf %lf", &quota, &period) == 2)
        lower_cores(cores, quota, period);
    if (read_line(root, "", group, "memory.max", line, sizeof(line)))
        lower_memory(memory, line);
}

static void look_cpu_v1(const char *root, const char *prefix, const char *group, double *cores)
{
    char quota[64], period[64];
    if (read_line(root, prefix, group, "cpu.cfs_quota_us", quota, sizeof(quota)) &&
        read_line(root, prefix, group, "cpu.cfs_period_us", period, sizeof(period)))
        lower_cores(cores, strtod(quota, NULL), strtod(period, NULL));
}

static bool has_word(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *p = list; p; p = strchr(p, ','), p = p ? p + 1 : NULL)
        if (!strncmp(p, word, len) && (!p[len] || p[len] == ','))
            return true;
    return false;
}

/* One line of /proc/self/cgroup: "0::/group" or "3:cpu,cpuacct:/group". */
static void look_line(const char *root, char *line, double *cores, uint64_t *memory)
{
    char *controllers = strchr(line, ':'),
         *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group)
        return;
    controllers++;
    *group++ = 0;
    group[strcspn(group, "\n")] = 0;
    for (;;) {
        if (!strcmp(group, "/"))
            *group = 0;
        char line1[64];
        if (!*controllers)
            look_v2(root, group, cores, memory);
        if (has_word(controllers, "cpu")) {
            look_cpu_v1(root, "/cpu", group, cores);
            look_cpu_v1(root, "/cpu,cpuacct", group, cores);
        }
        if (has_word(controllers, "memory") &&
            read_line(root, "/memory", group, "memory.limit_in_bytes", line1, sizeof(line1)))
            lower_memory(memory, line1);
        char *slash = strrchr(group, '/');
        if (!slash)
            return;
        *slash = 0;
    }
}

void sx_cgroup_limits(const char *root, double *ret_cores, uint64_t *ret_memory)
{
    char *path = NULL, *line = NULL;
    size_t size = 0;

    *ret_cores = 0;
    *ret_memory = 0;
    if (asprintf(&path, "%s/proc/self/cgroup", root) < 0)
        return;
    FILE *f = fopen(path, "re");
    free(path);
    if (!f)
        return;
    while (getline(&line, &size, f) > 0)
        look_line(root, line, ret_cores, ret_memory);
    free(line);
    fclose(f);
}
