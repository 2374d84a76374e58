/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * http_client_test.c - the client against a server that is told, connection by connection, what
 * to answer.  Server and client run in turns on one thread: no sleeps, no races.
 */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "perf/http_client.h"
#include "perf/http_request.h"

#define REQUEST "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"
#define OK      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

struct bench {
    int listener;
    struct sx_http_addr addr;
    struct sx_target *t;
};

static const struct sx_http_request request = {REQUEST, sizeof(REQUEST) - 1};

static void set_up(struct bench *b, uint32_t slots, uint64_t timeout_ns)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    b->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(b->listener, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(b->listener, 16), 0);
    getsockname(b->listener, (struct sockaddr *)&a, &len);
    char url[64];
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/", ntohs(a.sin_port));
    assert_int_equal(sx_http_resolve(url, &b->addr, NULL), SX_OK);
    struct sx_http_opts o = {slots, timeout_ns};
    assert_int_equal(sx_http_target_create(&b->addr, &o, &request, 1, &b->t, NULL), SX_OK);
}

static void tear_down(struct bench *b)
{
    b->t->ops->destroy(b->t);
    if (b->listener >= 0)
        close(b->listener);
}

/* Let the client go on until it connects. */
static int accept_one(struct bench *b)
{
    struct sx_completion c;
    int fd;
    while ((fd = accept(b->listener, NULL, NULL)) < 0)
        assert_int_equal(b->t->ops->poll(b->t, 0, &c, 1), 0);
    return fd;
}

/* Let the client send until a whole request was read from fd. */
static void read_request(struct bench *b, int fd)
{
    char buf[sizeof(REQUEST)];
    struct sx_completion c;
    size_t have = 0;
    while (have < request.len) {
        assert_int_equal(b->t->ops->poll(b->t, 0, &c, 1), 0);
        ssize_t n = recv(fd, buf + have, request.len - have, MSG_DONTWAIT);
        have += n > 0 ? (size_t)n : 0;
    }
    assert_memory_equal(buf, REQUEST, request.len);
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static struct sx_completion one(struct bench *b)
{
    struct sx_completion c = {0};
    while (b->t->ops->poll(b->t, SX_NEVER, &c, 1) == 0)
        ;
    return c;
}

static struct sx_completion exchange(struct bench *b, int fd, const char *answer)
{
    read_request(b, fd);
    say(fd, answer);
    return one(b);
}

static int start(struct bench *b)
{
    b->t->ops->submit(b->t, 0, 0);
    return accept_one(b);
}

static void connections_are_kept(void **state)
{
    (void)state;
    struct bench b;
    set_up(&b, 1, 0);
    int fd = start(&b);
    for (int i = 0; i < 20; i++) {
        struct sx_completion c = exchange(&b, fd, OK);
        assert_int_equal(c.outcome, SX_OUTCOME_OK);
        assert_int_equal(c.status, 200);
        b.t->ops->submit(b.t, 0, 0);
    }
    assert_int_equal(sx_http_target_counts(b.t).connects, 1);
    close(fd);
    tear_down(&b);
}

static void answers_in_every_framing(void **state)
{
    (void)state;
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
        "HTTP/1.1 204 No Content\r\n\r\n",
        OK,
    };
    struct bench b;
    set_up(&b, 1, 0);
    int fd = start(&b);
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        read_request(&b, fd);
        for (const char *p = answers[i]; *p; p++) { // byte by byte, seen one by one
            struct sx_completion c;
            if (p[1])
                assert_int_equal(b.t->ops->poll(b.t, 0, &c, 1), 0);
            say(fd, (char[]){*p, 0});
        }
        assert_int_equal(one(&b).outcome, SX_OUTCOME_OK);
        b.t->ops->submit(b.t, 0, 0);
    }
    assert_int_equal(sx_http_target_counts(b.t).connects, 1);
    close(fd);
    tear_down(&b);
}

static void connection_close_is_obeyed(void **state)
{
    (void)state;
    struct bench b;
    set_up(&b, 1, 0);
    int fd = start(&b);
    struct sx_completion c =
        exchange(&b, fd, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(c.outcome, SX_OUTCOME_OK);
    close(fd);
    fd = start(&b);
    read_request(&b, fd);
    say(fd, "HTTP/1.1 200 OK\r\n\r\nuntil the end"); // the body ends with the connection
    close(fd);
    assert_int_equal(one(&b).outcome, SX_OUTCOME_OK);
    assert_int_equal(sx_http_target_counts(b.t).connects, 2);
    tear_down(&b);
}

static void an_idle_connection_may_end(void **state)
{
    (void)state;
    struct bench b;
    set_up(&b, 1, 0);
    int fd = start(&b);
    exchange(&b, fd, OK);
    close(fd);
    fd = start(&b); // the client has not seen the end yet, or it has: both must work
    assert_int_equal(exchange(&b, fd, OK).outcome, SX_OUTCOME_OK);
    b.t->ops->submit(b.t, 0, 0);
    read_request(&b, fd);
    close(fd); // after the request: sent once more, then it counts
    fd = accept_one(&b);
    read_request(&b, fd);
    close(fd);
    assert_int_equal(one(&b).outcome, SX_OUTCOME_CLOSED);
    assert_true(sx_http_target_counts(b.t).retries >= 1);
    tear_down(&b);
}

static void failures_have_their_kind(void **state)
{
    (void)state;
    static const struct {
        const char *first_line, *body;
        enum sx_outcome outcome;
        const char *words;
    } cases[] = {
        {"HTTP/1.1 503 Busy", "{\"error\":\"Exceeds maximum queue size 4\"}", SX_OUTCOME_REJECTED,
         "HTTP 503: Exceeds maximum queue size 4"},
        {"HTTP/1.1 503 Busy", "{ \"error\" : \"Request timeout expired\"}", SX_OUTCOME_EXPIRED,
         "HTTP 503: Request timeout expired"},
        {"HTTP/1.1 429 Slow", "", SX_OUTCOME_REJECTED, "HTTP 429"},
        {"HTTP/1.1 400 No", "wrong\nvery", SX_OUTCOME_BAD_REQUEST, "HTTP 400: wrong"},
        {"HTTP/1.1 500 No", "", SX_OUTCOME_SERVER_ERROR, "HTTP 500"},
        {"SSH-2.0-OpenSSH", "", SX_OUTCOME_MALFORMED, NULL},
        {"HTTP/1.1 200 OK\r\nContent-Length: 10", "", SX_OUTCOME_MALFORMED, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct bench b;
        char answer[256];
        set_up(&b, 1, 0);
        int fd = start(&b);
        snprintf(answer, sizeof(answer), "%s\r\nContent-Length: %zu\r\n\r\n%s", cases[i].first_line,
                 strlen(cases[i].body), cases[i].body);
        struct sx_completion c = exchange(&b, fd, answer);
        assert_int_equal(c.outcome, cases[i].outcome);
        if (cases[i].words)
            assert_string_equal(b.t->ops->example(b.t, cases[i].outcome), cases[i].words);
        close(fd);
        tear_down(&b);
    }
}

static void a_cut_answer_is_not_retried(void **state)
{
    (void)state;
    struct bench b;
    set_up(&b, 1, 0);
    int fd = start(&b);
    exchange(&b, fd, OK);
    b.t->ops->submit(b.t, 0, 0);
    read_request(&b, fd);
    say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    struct sx_completion c;
    assert_int_equal(b.t->ops->poll(b.t, 0, &c, 1), 0);
    close(fd);
    assert_int_equal(one(&b).outcome, SX_OUTCOME_CLOSED);
    assert_int_equal(sx_http_target_counts(b.t).retries, 0);
    tear_down(&b);
}

static void silence_times_out(void **state)
{
    (void)state;
    struct bench b;
    set_up(&b, 1, 20 * SX_MS);
    int fd = start(&b);
    uint64_t begin = sx_now();
    assert_int_equal(one(&b).outcome, SX_OUTCOME_TIMEOUT);
    assert_true(sx_now() >= begin + 15 * SX_MS);
    close(fd);
    fd = start(&b); // on a new connection
    assert_int_equal(exchange(&b, fd, OK).outcome, SX_OUTCOME_OK);
    close(fd);
    tear_down(&b);
}

static void a_closed_port_is_a_failure_to_connect(void **state)
{
    (void)state;
    struct bench b;
    set_up(&b, 2, 0);
    close(b.listener);
    b.listener = -1;
    b.t->ops->submit(b.t, 1, 0);
    struct sx_completion c = one(&b);
    assert_int_equal(c.outcome, SX_OUTCOME_CONNECT);
    assert_int_equal(c.slot, 1);
    assert_true(b.t->ops->example(b.t, SX_OUTCOME_CONNECT)[0]);
    tear_down(&b);
}

static void cancel_frees_the_slots(void **state)
{
    (void)state;
    struct bench b;
    set_up(&b, 2, 0);
    int fd = start(&b);
    b.t->ops->submit(b.t, 1, 0);
    b.t->ops->cancel(b.t);
    struct sx_completion c;
    assert_int_equal(b.t->ops->poll(b.t, 0, &c, 1), 0);
    close(fd);
    close(accept_one(&b));
    fd = start(&b);
    assert_int_equal(exchange(&b, fd, OK).outcome, SX_OUTCOME_OK);
    close(fd);
    tear_down(&b);
}

static void addresses(void **state)
{
    (void)state;
    struct sx_http_addr a;
    struct sx_err err = {0};
    assert_int_equal(sx_http_resolve("127.0.0.1", &a, NULL), SX_OK);
    assert_string_equal(a.host, "127.0.0.1:8000");
    assert_int_equal(sx_http_resolve("http://[::1]:81/", &a, NULL), SX_OK);
    assert_string_equal(a.host, "[::1]:81");
    assert_int_equal(sx_http_resolve("127.0.0.1:0", &a, &err), SX_INVALID);
    assert_int_equal(sx_http_resolve("127.0.0.1:80x", &a, &err), SX_INVALID);
    assert_int_equal(sx_http_resolve("a/b", &a, &err), SX_INVALID);
    assert_int_equal(sx_http_resolve("", &a, &err), SX_INVALID);
    assert_int_equal(sx_http_resolve("https://a", &a, &err), SX_UNSUPPORTED);
}

/* --- what is sent -------------------------------------------------------------------------------
 */

#define METADATA                                                                                   \
    "{\"name\":\"m\",\"versions\":[\"1\",\"3\"],\"platform\":\"onnxruntime_onnx\",\"inputs\":["    \
    "{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[-1,2]},"                                     \
    "{\"name\":\"b\",\"datatype\":\"BYTES\",\"shape\":[-1,-1]}],\"outputs\":[]}"

static void requests_are_what_the_protocol_says(void **state)
{
    (void)state;
    struct sx_model_info m;
    struct sx_dataset d;
    struct sx_request_set s;
    struct sx_err err = {0};
    struct sx_http_addr addr = {.host = "h:1"};
    assert_int_equal(sx_model_info_parse(&m, METADATA, strlen(METADATA), &err), SX_OK);
    assert_true(m.batches);
    assert_string_equal(m.version, "3");
    assert_int_equal(sx_model_info_fix(&m, 2, &err), SX_INVALID);
    assert_string_equal(err.message, "input 'b' has the shape [2,-1]");
    assert_int_equal(sx_model_info_parse(&m, METADATA, strlen(METADATA), &err), SX_OK);
    assert_int_equal(sx_model_info_shape(&m, "b:1", &err), SX_OK);
    assert_int_equal(sx_model_info_shape(&m, "c:1", &err), SX_NOT_FOUND);
    assert_int_equal(sx_model_info_shape(&m, "a:2,3", &err), SX_INVALID);
    assert_int_equal(sx_model_info_fix(&m, 2, &err), SX_OK);
    const char *json = "{\"data\":[{\"a\":[1,2.5],\"b\":[\"x\"]},"
                       "{\"a\":{\"content\":[3,4],\"shape\":[2]},\"b\":{\"b64\":\"eXo=\"}}]}";
    assert_int_equal(sx_dataset_json(&d, &m, json, strlen(json), 2, &err), SX_OK);
    struct sx_request_form form = {.model = "m/1", .version = "3", .timeout_us = 5, .json = true};
    assert_int_equal(sx_request_set_build(&s, &addr, &form, &m, &d, &err), SX_OK);
    const char *want =
        "POST /v2/models/m%2F1/versions/3/infer HTTP/1.1\r\nHost: h:1\r\n"
        "Content-Type: application/json\r\nContent-Length: 167\r\n\r\n"
        "{\"parameters\":{\"timeout\":5},\"inputs\":[{\"name\":\"a\",\"shape\":[2,2],"
        "\"datatype\":\"FP32\",\"data\":[1,2.5,3,4]},{\"name\":\"b\",\"shape\":[2,1],"
        "\"datatype\":\"BYTES\",\"data\":[\"x\",\"yz\"]}]}";
    assert_string_equal(s.request[0].data, want);
    sx_request_set_fini(&s);
    form = (struct sx_request_form){.model = "m"};
    assert_int_equal(sx_request_set_build(&s, &addr, &form, &m, &d, &err), SX_OK);
    float a[4];
    memcpy(a, s.request[0].data + s.request[0].len - 16 - 11, 16);
    assert_true(a[1] > 2.4f && a[1] < 2.6f && a[3] > 3.9f);
    assert_memory_equal(s.request[0].data + s.request[0].len - 11, "\1\0\0\0x\2\0\0\0yz", 11);
    assert_non_null(strstr(s.request[0].data, "\"binary_data_output\":true"));
    sx_request_set_fini(&s);
    sx_dataset_fini(&d);
}

static void bad_data_is_explained(void **state)
{
    (void)state;
    static const struct {
        const char *json, *want;
    } cases[] = {
        {"{\"data\":[]}", "no samples in \"data\""},
        {"{", "not JSON: unexpected end of data at byte 1"},
        {"{\"data\":[{\"a\":[1,2]}]}", "sample 0 has no 'b'"},
        {"{\"data\":[{\"a\":[1,2,3]}]}", "sample 0: 'a' has 3 elements, the model takes 2"},
        {"{\"data\":[{\"a\":[1,\"x\"]}]}",
         "input 'a': values must be numbers (b64 for FP16 and BF16)"},
    };
    struct sx_model_info m;
    struct sx_dataset d;
    struct sx_err err = {0};
    assert_int_equal(sx_model_info_parse(&m, METADATA, strlen(METADATA), &err), SX_OK);
    assert_int_equal(sx_model_info_shape(&m, "b:1", &err), SX_OK);
    assert_int_equal(sx_model_info_fix(&m, 1, &err), SX_OK);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(sx_dataset_json(&d, &m, cases[i].json, strlen(cases[i].json), 1, &err),
                         SX_INVALID);
        assert_string_equal(err.message, cases[i].want);
    }
}

static void same_seed_same_data(void **state)
{
    (void)state;
    struct sx_model_info m;
    struct sx_dataset d, e;
    assert_int_equal(sx_model_info_parse(&m, METADATA, strlen(METADATA), NULL), SX_OK);
    assert_int_equal(sx_model_info_shape(&m, "b:3", NULL), SX_OK);
    assert_int_equal(sx_model_info_fix(&m, 4, NULL), SX_OK);
    assert_int_equal(sx_dataset_generate(&d, &m, 3, false, 9, NULL), SX_OK);
    assert_int_equal(sx_dataset_generate(&e, &m, 3, false, 9, NULL), SX_OK);
    for (int i = 0; i < 6; i++)
        assert_true(sx_tensor_equal(&d.tensor[i], &e.tensor[i]));
    assert_false(sx_tensor_equal(&d.tensor[0], &d.tensor[2]));
    assert_true(sx_tensor_bytes_valid(&d.tensor[1]));
    sx_dataset_fini(&d);
    sx_dataset_fini(&e);
}

static void server_times_are_read_or_not_known(void **state)
{
    (void)state;
    static const char text[] =
        "{\"model_stats\":[{\"inference_count\":12,\"execution_count\":4,\"inference_stats\":{"
        "\"success\":{\"count\":6,\"ns\":900},\"queue\":{\"count\":6,\"ns\":100},"
        "\"compute_input\":{\"count\":6,\"ns\":20},\"compute_infer\":{\"count\":6,\"ns\":700},"
        "\"compute_output\":{\"count\":6,\"ns\":30}}}]}";
    struct sx_server_times t;
    assert_true(sx_server_times_parse(text, strlen(text), &t));
    assert_int_equal(t.requests, 6);
    assert_int_equal(t.samples, 12);
    assert_int_equal(t.runs, 4);
    assert_int_equal(t.queue_ns, 100);
    assert_int_equal(t.input_ns, 20);
    assert_int_equal(t.infer_ns, 700);
    assert_int_equal(t.output_ns, 30);
    for (size_t n = 0; n < strlen(text); n++) /* cut anywhere */
        assert_false(sx_server_times_parse(text, n, &t));
    assert_false(sx_server_times_parse("{\"model_stats\":[{},{}]}", 23, &t));
    assert_false(sx_server_times_parse("[1]", 3, &t));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connections_are_kept),
        cmocka_unit_test(answers_in_every_framing),
        cmocka_unit_test(connection_close_is_obeyed),
        cmocka_unit_test(an_idle_connection_may_end),
        cmocka_unit_test(failures_have_their_kind),
        cmocka_unit_test(a_cut_answer_is_not_retried),
        cmocka_unit_test(silence_times_out),
        cmocka_unit_test(a_closed_port_is_a_failure_to_connect),
        cmocka_unit_test(cancel_frees_the_slots),
        cmocka_unit_test(addresses),
        cmocka_unit_test(requests_are_what_the_protocol_says),
        cmocka_unit_test(bad_data_is_explained),
        cmocka_unit_test(same_seed_same_data),
        cmocka_unit_test(server_times_are_read_or_not_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
