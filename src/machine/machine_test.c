/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/* machine_test.c - recorded machines, control groups in a directory, and the machine that runs
 * this. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "machine/machine_int.h"

static struct sx_machine *synthetic(const char *text)
{
    struct sx_machine *m = NULL;
    struct sx_err err = {0};
    if (sx_machine_from_synthetic(text, &m, &err))
        fail_msg("%s", err.message);
    return m;
}

static void test_one_unit_per_core(void **state)
{
    (void)state;
    struct sx_machine *m = synthetic("pack:2 [numa] l3:2 core:3 pu:2");
    assert_int_equal(m->n_units, 12);
    for (unsigned i = 0; i < m->n_units; i++) {
        assert_int_equal(m->units[i].cpu, 2 * i); /* its first thread */
        assert_int_equal(m->units[i].package, i / 6);
        assert_int_equal(m->units[i].numa, i / 6);
        assert_int_equal(m->units[i].l3, i / 3);
    }
    assert_int_equal(m->n_devices, 1);
    assert_string_equal(m->devices[0].name, "cpu");
    assert_string_equal(m->devices[0].kind, "cpu");
    assert_int_equal(m->devices[0].first_unit, 0);
    assert_int_equal(m->devices[0].n_units, 12);
    assert_true(m->devices[0].slowdown == 1);
    assert_int_not_equal(strlen(m->id), 0);
    assert_int_not_equal(strlen(m->cpu_model), 0);
    sx_machine_destroy(m);
}

static void test_neighbours_share_caches(void **state)
{
    (void)state;
    /* the system numbers threads round robin over packages */
    struct sx_machine *m = synthetic("pack:2 l3:1 core:2 pu:1(indexes=0,2,1,3)");
    static const int cpus[] = {0, 2, 1, 3};
    assert_int_equal(m->n_units, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(m->units[i].cpu, cpus[i]);
        assert_int_equal(m->units[i].l3, i / 2);
    }
    sx_machine_destroy(m);
}

static void test_no_l3_and_no_cores(void **state)
{
    (void)state;
    struct sx_machine *m = synthetic("l2:2 core:2 pu:1");
    assert_int_equal(m->n_units, 4);
    assert_int_equal(m->units[1].l3, 0);
    assert_int_equal(m->units[2].l3, 1);
    sx_machine_destroy(m);
    m = synthetic("pu:3");
    assert_int_equal(m->n_units, 3);
    sx_machine_destroy(m);
}

static void test_same_kind_same_id(void **state)
{
    (void)state;
    struct sx_machine *a = synthetic("pack:1 l3:1(size=33554432) core:4 pu:2");
    struct sx_machine *b = synthetic("pack:2 l3:2(size=33554432) core:8 pu:2");
    struct sx_machine *c = synthetic("pack:1 l3:1(size=16777216) core:4 pu:2");
    assert_string_equal(a->id, b->id);
    assert_string_not_equal(a->id, c->id);
    sx_machine_destroy(a);
    sx_machine_destroy(b);
    sx_machine_destroy(c);
}

/* A container: 4 cores with 2 threads each, of which 1, 2, 3 and 6 are allowed. */
static const char recorded[] =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
    "<!DOCTYPE topology SYSTEM \"hwloc2.dtd\">\n"
    "<topology version=\"2.0\">\n"
    "<object type=\"Machine\" os_index=\"0\" cpuset=\"0xff\" complete_cpuset=\"0xff\""
    " allowed_cpuset=\"0x4e\" nodeset=\"0x1\" complete_nodeset=\"0x1\" allowed_nodeset=\"0x1\">\n"
    "<object type=\"NUMANode\" os_index=\"0\" cpuset=\"0xff\" complete_cpuset=\"0xff\""
    " nodeset=\"0x1\" complete_nodeset=\"0x1\" local_memory=\"8589934592\"/>\n"
    "<object type=\"Package\" os_index=\"0\" cpuset=\"0xff\" complete_cpuset=\"0xff\""
    " nodeset=\"0x1\" complete_nodeset=\"0x1\">\n"
    "<info name=\"CPUModel\" value=\"Example(R) Xtra(TM) CPU 9000   Processor @ 2.20GHz\"/>\n"
#define CORE(n, set, a, b)                                                                         \
    "<object type=\"Core\" os_index=\"" n "\" cpuset=\"" set "\" complete_cpuset=\"" set           \
    "\" nodeset=\"0x1\" complete_nodeset=\"0x1\">\n" a b "</object>\n"
#define PU(n, set)                                                                                 \
    "<object type=\"PU\" os_index=\"" n "\" cpuset=\"" set "\" complete_cpuset=\"" set             \
    "\" nodeset=\"0x1\" complete_nodeset=\"0x1\"/>\n"
    CORE("0", "0x03", PU("0", "0x01"), PU("1", "0x02"))
        CORE("1", "0x0c", PU("2", "0x04"), PU("3", "0x08"))
            CORE("2", "0x30", PU("4", "0x10"), PU("5", "0x20"))
                CORE("3", "0xc0", PU("6", "0x40"),
                     PU("7", "0x80")) "</object>\n</object>\n</topology>\n";

static void test_recorded_container(void **state)
{
    (void)state;
    struct sx_machine *m;
    struct sx_err err = {0};
    if (sx_machine_from_xml(recorded, &m, &err))
        fail_msg("%s", err.message);
    static const int cpus[] = {1, 2, 6};
    assert_int_equal(m->n_units, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(m->units[i].cpu, cpus[i]);
    assert_string_equal(m->cpu_model, "Example Xtra 9000 @ 2.20GHz");
    assert_int_equal(m->memory_bytes, UINT64_C(8589934592));
    sx_machine_destroy(m);
}

static void test_bad_xml(void **state)
{
    (void)state;
    struct sx_machine *m = NULL;
    struct sx_err err = {0};
    setenv("HWLOC_HIDE_ERRORS", "2", 1);
    assert_int_equal(sx_machine_from_xml("<topology", &m, &err), SX_INVALID);
    assert_int_equal(err.rc, SX_INVALID);
    assert_null(m);
}

static void put(const char *root, const char *path, const char *text)
{
    char full[4096];
    snprintf(full, sizeof(full), "%s%s", root, path);
    *strrchr(full, '/') = 0;
    assert_int_equal(sx_dir_create(full, NULL), SX_OK);
    snprintf(full, sizeof(full), "%s%s", root, path);
    assert_int_equal(sx_file_write(full, text, strlen(text), NULL), SX_OK);
}

static void test_cgroup(void **state)
{
    (void)state;
    double cores;
    uint64_t memory;
    char v2[] = "/tmp/sx-machine-XXXXXX", v1[] = "/tmp/sx-machine-XXXXXX";

    assert_non_null(mkdtemp(v2));
    sx_cgroup_limits(v2, &cores, &memory);
    assert_true(cores == 0 && memory == 0);
    put(v2, "/proc/self/cgroup", "0::/a/b\n");
    put(v2, "/sys/fs/cgroup/a/cpu.max", "150000 100000\n");
    put(v2, "/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    put(v2, "/sys/fs/cgroup/a/b/memory.max", "1073741824\n");
    put(v2, "/sys/fs/cgroup/memory.max", "max\n");
    sx_cgroup_limits(v2, &cores, &memory);
    assert_true(cores == 1.5);
    assert_int_equal(memory, 1 << 30);
    struct sx_machine *m = synthetic("core:8 pu:2");
    sx_cgroup_limits(v2, &m->quota_cores, &memory);
    assert_true(sx_machine_keep_quota(m));
    assert_int_equal(m->n_units, 2);
    assert_int_equal(m->devices[0].n_units, 2);
    sx_machine_destroy(m);
    /* in a container: the path is the host's */
    put(v2, "/proc/self/cgroup", "0::/system.slice/docker-1.scope\n");
    put(v2, "/sys/fs/cgroup/cpu.max", "50000 100000\n");
    sx_cgroup_limits(v2, &cores, &memory);
    assert_true(cores == 0.5);
    assert_int_equal(memory, 0);
    sx_dir_remove(v2, NULL);

    assert_non_null(mkdtemp(v1));
    put(v1, "/proc/self/cgroup", "4:memory:/x\n3:cpu,cpuacct:/x\n1:name=systemd:/x\nbroken\n");
    put(v1, "/sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us", "200000\n");
    put(v1, "/sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
    put(v1, "/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "2147483648\n");
    put(v1, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    sx_cgroup_limits(v1, &cores, &memory);
    assert_true(cores == 2);
    assert_int_equal(memory, UINT64_C(2147483648));
    sx_dir_remove(v1, NULL);
}

static void test_this_machine(void **state)
{
    (void)state;
    struct sx_machine *m;
    struct sx_err err = {0};
    if (sx_machine_detect(&m, &err))
        fail_msg("%s", err.message);
    assert_true(m->n_units >= 1);
    assert_true(m->memory_bytes > 1 << 20);
    for (unsigned i = 1; i < m->n_units; i++)
        assert_int_not_equal(m->units[i].cpu, m->units[0].cpu);
    print_message("# %s, %u cores, %s\n", m->cpu_model, m->n_units, m->id);
    sx_machine_destroy(m);
    sx_machine_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_unit_per_core),
        cmocka_unit_test(test_neighbours_share_caches),
        cmocka_unit_test(test_no_l3_and_no_cores),
        cmocka_unit_test(test_same_kind_same_id),
        cmocka_unit_test(test_recorded_container),
        cmocka_unit_test(test_bad_xml),
        cmocka_unit_test(test_cgroup),
        cmocka_unit_test(test_this_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
