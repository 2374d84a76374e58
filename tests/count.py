#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""count.py junit|unittest FILE STATUS: print "passed failed skipped" of one run of the tests.

A run that ended badly (STATUS is not 0) has at least one failed test, whatever its report says,
and so has one without a report."""

import re
import sys
import xml.etree.ElementTree as ElementTree


def junit(path):
    passed = failed = skipped = 0
    for suite in ElementTree.parse(path).getroot().iter('testsuite'):
        cases = suite.findall('testcase')
        bad = sum(1 for c in cases if c.find('failure') is not None or c.find('error') is not None)
        skip = sum(1 for c in cases if c.find('skipped') is not None)
        # a program that crashed after its last good test has no failed case
        bad = max(bad, int(suite.get('failures') or 0), int(suite.get('errors') or 0))
        passed += max(0, len(cases) - bad - skip)
        failed += bad
        skipped += skip
    return passed, failed, skipped


def unittest(path):
    with open(path, encoding='utf-8', errors='replace') as file:
        text = file.read()
    ran = sum(int(n) for n in re.findall(r'^Ran (\d+) tests?', text, re.M))
    result = dict.fromkeys(('failures', 'errors', 'skipped', 'unexpected successes'), 0)
    for line in re.findall(r'^(?:OK|FAILED) \((.*)\)$', text, re.M):
        for name, number in re.findall(r'([a-z ]+)=(\d+)', line):
            name = name.strip()
            if name in result:
                result[name] += int(number)
    skipped = result.pop('skipped')
    failed = sum(result.values())
    return max(0, ran - failed - skipped), failed, skipped


def main():
    kind, path, status = sys.argv[1], sys.argv[2], int(sys.argv[3])
    try:
        passed, failed, skipped = {'junit': junit, 'unittest': unittest}[kind](path)
    except (OSError, ElementTree.ParseError):
        passed = failed = skipped = 0
        status = status or 1
    if status and not failed:
        failed = 1
    print(passed, failed, skipped)


if __name__ == '__main__':
    main()
