/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * server_times.c - what a server says of a model, in the form of Triton's statistics extension.
 */
#include <yyjson.h>

#include "perf/http_client.h"

static uint64_t get(yyjson_val *stats, const char *what, const char *key)
{
    return yyjson_get_uint(yyjson_obj_get(yyjson_obj_get(stats, what), key));
}

bool sx_server_times_parse(const char *json, size_t len, struct sx_server_times *ret)
{
    yyjson_doc *doc = yyjson_read(json, len, 0);
    yyjson_val *models = yyjson_obj_get(yyjson_doc_get_root(doc), "model_stats");
    yyjson_val *model = yyjson_arr_get_first(models);
    yyjson_val *stats = yyjson_obj_get(model, "inference_stats");
    bool known = yyjson_arr_size(models) == 1 && yyjson_is_obj(stats); /* else: several versions */
    if (known)
        *ret = (struct sx_server_times){
            .requests = get(stats, "success", "count"),
            .samples = yyjson_get_uint(yyjson_obj_get(model, "inference_count")),
            .runs = yyjson_get_uint(yyjson_obj_get(model, "execution_count")),
            .queue_ns = get(stats, "queue", "ns"),
            .input_ns = get(stats, "compute_input", "ns"),
            .infer_ns = get(stats, "compute_infer", "ns"),
            .output_ns = get(stats, "compute_output", "ns"),
        };
    yyjson_doc_free(doc);
    return known;
}
