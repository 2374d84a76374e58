/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * machine.c - what is here, by hwloc.
 *
 * hwloc keeps to what the process may use (its cpuset), so a container sees its own cores.  A unit
 * is a physical core: its first allowed hardware thread.  hwloc lists cores in the order of the
 * topology tree, which is the one that we want (neighbours share caches); units are sorted by
 * package, NUMA node and last cache for trees that are stranger than that.
 */
#include "machine/machine.h"

#include <ctype.h>
#include <errno.h>
#include <hwloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine/machine_int.h"

void sx_machine_destroy(struct sx_machine *machine)
{
    if (!machine)
        return;
    free(machine->units);
    free(machine->devices);
    free(machine->cpus);
    free(machine);
}

/* --- units --------------------------------------------------------------------------- */

/* The last cache of a core: the L3, else the L2, else the core itself. */
static hwloc_obj_t last_cache(hwloc_obj_t core)
{
    hwloc_obj_t l2 = NULL;
    for (hwloc_obj_t o = core; o; o = o->parent) {
        if (o->type == HWLOC_OBJ_L3CACHE)
            return o;
        if (o->type == HWLOC_OBJ_L2CACHE)
            l2 = o;
    }
    return l2 ? l2 : core;
}

static int package_of(hwloc_obj_t core)
{
    for (hwloc_obj_t o = core; o; o = o->parent)
        if (o->type == HWLOC_OBJ_PACKAGE)
            return (int)o->logical_index;
    return 0;
}

static int numa_of(hwloc_topology_t topology, int cpu)
{
    hwloc_obj_t node = NULL;
    while ((node = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, node)))
        if (node->cpuset && hwloc_bitmap_isset(node->cpuset, (unsigned)cpu))
            return (int)node->logical_index;
    return 0;
}

struct found {
    struct sx_unit unit;
    hwloc_obj_t cache;
    unsigned order;
};

static int by_place(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    if (x->unit.package != y->unit.package)
        return x->unit.package < y->unit.package ? -1 : 1;
    if (x->unit.numa != y->unit.numa)
        return x->unit.numa < y->unit.numa ? -1 : 1;
    if (x->cache != y->cache && x->cache->logical_index != y->cache->logical_index)
        return x->cache->logical_index < y->cache->logical_index ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* `bound`: the threads that we may run on; NULL: all that the topology has. */
static enum sx_rc find_units(hwloc_topology_t topology, hwloc_const_cpuset_t bound,
                             struct sx_machine *m, struct sx_err *err)
{
    hwloc_const_cpuset_t allowed = hwloc_topology_get_allowed_cpuset(topology);
    /* some machines, mostly virtual ones, show threads without cores */
    bool cores = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE) > 0;
    hwloc_obj_type_t type = cores ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
    int n = hwloc_get_nbobjs_by_type(topology, type);
    struct found *found = calloc(n > 0 ? (size_t)n : 1, sizeof(*found));
    hwloc_bitmap_t usable = hwloc_bitmap_alloc();
    enum sx_rc rc = SX_OK;
    unsigned count = 0;

    if (!found || !usable) {
        rc = sx_fail(err, SX_NO_MEMORY, "no memory to look at the machine");
        goto out;
    }
    for (hwloc_obj_t o = NULL; (o = hwloc_get_next_obj_by_type(topology, type, o));) {
        hwloc_bitmap_and(usable, o->cpuset, allowed);
        if (bound)
            hwloc_bitmap_and(usable, usable, bound);
        int cpu = hwloc_bitmap_first(usable);
        if (cpu < 0)
            continue;
        found[count] = (struct found){
            .unit = {.cpu = cpu, .package = package_of(o), .numa = numa_of(topology, cpu)},
            .cache = last_cache(o),
            .order = count,
        };
        count++;
    }
    if (!count) {
        rc = sx_fail(err, SX_UNSUPPORTED, "no core is allowed to this process");
        goto out;
    }
    qsort(found, count, sizeof(*found), by_place);
    m->units = calloc(count, sizeof(*m->units));
    if (!m->units) {
        rc = sx_fail(err, SX_NO_MEMORY, "no memory to look at the machine");
        goto out;
    }
    int l3 = 0;
    for (unsigned i = 0; i < count; i++) {
        if (i && found[i].cache != found[i - 1].cache)
            l3++;
        m->units[i] = found[i].unit;
        m->units[i].l3 = l3;
    }
    m->n_units = count;
out:
    free(found);
    hwloc_bitmap_free(usable);
    return rc;
}

/* --- names --------------------------------------------------------------------------- */

/* "AMD EPYC 9454 48-Core Processor" and "Intel(R) Xeon(R) CPU @ 2.20GHz" without the noise. */
static void tidy_name(const char *from, char *to, size_t size)
{
    static const char *const noise[] = {"(R)", "(TM)", "(r)", "(tm)", " Processor", " CPU"};
    size_t len = 0;

    while (*from && len + 1 < size) {
        size_t skip = 0;
        for (size_t i = 0; !skip && i < sizeof(noise) / sizeof(*noise); i++) {
            size_t n = strlen(noise[i]);
            if (!strncmp(from, noise[i], n) && !isalnum((unsigned char)from[n]))
                skip = n;
        }
        if (skip) {
            from += skip;
            continue;
        }
        if (!isspace((unsigned char)*from))
            to[len++] = *from;
        else if (len && to[len - 1] != ' ')
            to[len++] = ' ';
        from++;
    }
    while (len && to[len - 1] == ' ')
        len--;
    to[len] = 0;
}

static uint64_t hash(uint64_t h, const char *text)
{
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return (h ^ 0xff) * UINT64_C(0x100000001b3);
}

static const char *info(hwloc_obj_t o, const char *name)
{
    const char *value = o ? hwloc_obj_get_info_by_name(o, name) : NULL;
    return value ? value : "";
}

/* The same text on the same kind of machine: processor and caches, not how many cores we got. */
static void name_machine(hwloc_topology_t topology, const char *flags, struct sx_machine *m)
{
    hwloc_obj_t root = hwloc_get_root_obj(topology);
    hwloc_obj_t package = hwloc_get_obj_by_type(topology, HWLOC_OBJ_PACKAGE, 0);
    const char *model = info(package, "CPUModel");
    static const char *const keys[] = {"CPUVendor", "CPUFamilyNumber", "CPUModelNumber",
                                       "CPUStepping"};
    static const hwloc_obj_type_t caches[] = {HWLOC_OBJ_L1CACHE, HWLOC_OBJ_L2CACHE,
                                              HWLOC_OBJ_L3CACHE};

    if (!*model)
        model = info(root, "CPUModel");
    tidy_name(model, m->cpu_model, sizeof(m->cpu_model));
    if (!m->cpu_model[0])
        snprintf(m->cpu_model, sizeof(m->cpu_model), "unknown processor");

    uint64_t h = hash(UINT64_C(0xcbf29ce484222325), model);
    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
        h = hash(h, info(package, keys[i]));
    h = hash(h, info(root, "Architecture"));
    for (size_t i = 0; i < sizeof(caches) / sizeof(*caches); i++) {
        hwloc_obj_t c = hwloc_get_obj_by_type(topology, caches[i], 0);
        char text[32];
        snprintf(text, sizeof(text), "%llu", c ? (unsigned long long)c->attr->cache.size : 0);
        h = hash(h, text);
    }
    h = hash(h, flags);
    snprintf(m->id, sizeof(m->id), "%016llx", (unsigned long long)h);
}

/* What the processor can do, as far as it decides which code an engine chooses. */
static char *cpu_flags(void)
{
    char *line = NULL, *flags = NULL;
    size_t size = 0;
    FILE *f = fopen("/proc/cpuinfo", "re");

    while (f && !flags && getline(&line, &size, f) > 0)
        if (!strncmp(line, "flags", 5) || !strncmp(line, "Features", 8))
            flags = strdup(line);
    free(line);
    if (f)
        fclose(f);
    return flags ? flags : strdup("");
}

/* --- detection ----------------------------------------------------------------------- */

/* Takes the topology over. */
static enum sx_rc from_topology(hwloc_topology_t topology, hwloc_const_cpuset_t bound,
                                const char *flags, struct sx_machine **ret_machine,
                                struct sx_err *err)
{
    struct sx_machine *m = calloc(1, sizeof(*m));
    enum sx_rc rc = m ? find_units(topology, bound, m, err)
                      : sx_fail(err, SX_NO_MEMORY, "no memory to look at the machine");
    if (!rc)
        rc = sx_machine_whole(m, err);
    if (!rc) {
        m->memory_bytes = hwloc_get_root_obj(topology)->total_memory;
        name_machine(topology, flags, m);
        *ret_machine = m;
        m = NULL;
    }
    sx_machine_destroy(m);
    hwloc_topology_destroy(topology);
    return rc;
}

static enum sx_rc load(hwloc_topology_t topology, struct sx_err *err)
{
    if (!hwloc_topology_load(topology))
        return SX_OK;
    int e = errno;
    hwloc_topology_destroy(topology);
    return sx_fail(err, SX_INVALID, "hwloc cannot read the topology: %s", strerror(e));
}

/* hwloc_topology_init without hwloc's plug-ins, which look for displays and accelerators: they take
 * longer than all the rest, and leak.  A user who names a directory of plug-ins gets them. */
static int init_topology(hwloc_topology_t *ret_topology)
{
    bool named = getenv("HWLOC_PLUGINS_PATH") != NULL;
    if (!named)
        setenv("HWLOC_PLUGINS_PATH", "/nonexistent", 1);
    int rc = hwloc_topology_init(ret_topology);
    if (!named)
        unsetenv("HWLOC_PLUGINS_PATH");
    return rc;
}

enum sx_rc sx_machine_from_xml(const char *xml, struct sx_machine **ret_machine, struct sx_err *err)
{
    hwloc_topology_t topology;
    if (init_topology(&topology))
        return sx_fail(err, SX_NO_MEMORY, "no memory for hwloc");
    if (hwloc_topology_set_xmlbuffer(topology, xml, (int)strlen(xml) + 1)) {
        hwloc_topology_destroy(topology);
        return sx_fail(err, SX_INVALID, "this is not a topology in hwloc's XML");
    }
    enum sx_rc rc = load(topology, err);
    return rc ? rc : from_topology(topology, NULL, "", ret_machine, err);
}

enum sx_rc sx_machine_from_synthetic(const char *text, struct sx_machine **ret_machine,
                                     struct sx_err *err)
{
    hwloc_topology_t topology;
    if (init_topology(&topology))
        return sx_fail(err, SX_NO_MEMORY, "no memory for hwloc");
    if (hwloc_topology_set_synthetic(topology, text)) {
        hwloc_topology_destroy(topology);
        return sx_fail(err, SX_INVALID, "'%s' is not a synthetic topology", text);
    }
    enum sx_rc rc = load(topology, err);
    return rc ? rc : from_topology(topology, NULL, "", ret_machine, err);
}

enum sx_rc sx_machine_detect(struct sx_machine **ret_machine, struct sx_err *err)
{
    hwloc_topology_t topology;
    if (init_topology(&topology))
        return sx_fail(err, SX_NO_MEMORY, "no memory for hwloc");
    enum sx_rc rc = load(topology, err);
    if (rc)
        return rc;

    /* the cpuset of the cgroup is in the topology; what taskset or a parent bound us to is not */
    hwloc_bitmap_t bound = hwloc_bitmap_alloc();
    char *flags = cpu_flags();
    if (!bound || !flags) {
        hwloc_topology_destroy(topology);
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for hwloc");
        goto out;
    }
    bool known =
        !hwloc_get_cpubind(topology, bound, HWLOC_CPUBIND_PROCESS) && !hwloc_bitmap_iszero(bound);
    struct sx_machine *m = NULL;
    rc = from_topology(topology, known ? bound : NULL, flags, &m, err);
    if (rc)
        goto out;
    uint64_t limit;
    sx_cgroup_limits("", &m->quota_cores, &limit);
    if (!m->memory_bytes) {
        long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
        m->memory_bytes = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
    }
    if (limit && (limit < m->memory_bytes || !m->memory_bytes))
        m->memory_bytes = limit;
    if (m->quota_cores >= m->n_units)
        m->quota_cores = 0; /* more than there is: no limit */
    *ret_machine = m;
out:
    hwloc_bitmap_free(bound);
    free(flags);
    return rc;
}
