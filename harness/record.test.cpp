// record.test.cpp: rows survive the way to JSON and back, files survive kills and full disks, and every exit code has its cause.
#include "harness/record.hpp"

#include <gtest/gtest.h>
#include <unistd.h>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "harness/testing.hpp"

namespace prnn {
namespace {

namespace fs = std::filesystem;

/// A folder of this test's own, gone with it.
class Folder {
 public:
  Folder() : path_(fs::temp_directory_path() / ("prnn-record-" + std::to_string(getpid()) + "-" + ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

std::string content(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(stream), {});
}
void put(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

using testing::refusal;

/// Every field set, each to another value.
CaseRecord full_row() {
  CaseRecord r;
  r.problem = {.op = "recurrence",
               .scope = "kernel",
               .cell = "lstm_cifg_diag",
               .pass = "forward",
               .grad = "all",
               .storage = Storage::f64,
               .batch = 2,
               .hidden = 3,
               .seq_len = 4,
               .regime = "wide",
               .weight_std = 0.25,
               .h0 = "random",
               .seed = 18446744073709551615u,
               .gates = "exact",
               .iteration_limit = 5,
               .policy = {},
               .text = nullptr};
  r.suite = "quick", r.device = "cuda", r.solver = "auto", r.cache = "hot", r.group_id = "g", r.case_id = "c", r.gpu_name = "H200";
  r.policy = {{"threads", 64}, {"steps_a_thread", 2}};
  r.policy_solver = "newton_fused";
  r.status = Status::not_converged, r.expected_status = Status::wrong, r.reason = "why";
  r.time_s = TimeSummary{1, 2, 3, 4, 5, 6, 7, "m"};
  r.samples_s = {0.1, 0.2};
  r.visits = {{1, 1, 27.0}, {1, 0, 28.0}};
  r.time_graph_s = 8, r.graph_launches = 9, r.host_s = 10, r.clock_mhz = 11;
  r.bytes_min = 12, r.floor_s = 13, r.floor_fraction = 14, r.compute_floor_s = 15, r.flops = 16;
  r.iterations = 17, r.rounds = 18, r.boundaries = 19, r.boundaries_failed = 20, r.converged = false, r.deterministic = true;
  r.residual_max = {21, 22}, r.step_max = {23, 24}, r.lyapunov = 25, r.jacobian_max = 26;
  double next = 30;
  for (auto* error : {&r.error, &r.error_du, &r.error_da, &r.error_dh0}) {
    error->emplace(ErrorSummary{{next, next + 1, next + 2, next + 3, next + 4, std::int64_t(next) + 8, {{1, 2}, {0, 3}}, "mpfr"}, next + 5, next + 6, next + 7});
    next += 10;
  }
  r.error_end_to_end.emplace();
  next = 80;
  for (auto* error : {&r.error_end_to_end->du, &r.error_end_to_end->da, &r.error_end_to_end->dh0}) {
    error->emplace(ErrorSize{next, next + 1, next + 2, next + 3, next + 4, std::int64_t(next) + 5, {{4, 5}}, "mpfr"});
    next += 10;
  }
  r.truncation.emplace(TruncationSummary{120, 121, 122, {{6, 7}}});
  r.speedup = {{"seq_fused", {70, 71, 72}}, {"seq_stepwise", {73, 74, 75}}};
  return r;
}

TEST(Record, HasEveryFieldOfTheContractInEveryRow) {
  const Json row = to_json(full_row());
  const Json expected = Json::parse(
      R"({"record":"case","op":"recurrence","scope":"kernel","cell":"lstm_cifg_diag","jacobian":null,"pass":"forward","grad":"all","storage":"f64","batch":2,"hidden":3,"seq_len":4,
    "regime":"wide","weight_std":0.25,"h0":"random","seed":18446744073709551615,"gates":"exact","iteration_limit":5,"cache":"hot","suite":"quick","device":"cuda","gpu_name":"H200","compute":"f64",
    "solver":"auto","policy":{"solver":"newton_fused","steps_a_thread":2,"threads":64},"group_id":"g","case_id":"c","status":"not_converged","expected_status":"wrong","reason":"why","null_reasons":{"jacobian":"op recurrence has none"},
    "time_s":{"median":1.0,"min":2.0,"mean":3.0,"mad":4.0,"ci95_low":5.0,"ci95_high":6.0,"samples":7,"method":"m"},"samples_s":[0.1,0.2],"visits":[{"samples":1,"process":1,"clock_mhz":27.0},{"samples":1,"process":0,"clock_mhz":28.0}],"time_graph_s":8.0,"graph_launches":9,"host_s":10.0,
    "clock_mhz":11.0,"bytes_min":12,"floor_s":13.0,"floor_fraction":14.0,"compute_floor_s":15.0,"flops":16,"iterations":17,"converged":false,"rounds":18,"boundaries":19,"boundaries_failed":20,
    "residual_max":[21.0,22.0],"step_max":[23.0,24.0],"deterministic":true,"lyapunov":25.0,"jacobian_max":26.0,
    "error":{"abs_max":30.0,"rel_max":31.0,"ulp_max":32.0,"ulp_p99":33.0,"rms":34.0,"ratio_local":35.0,"ratio_forward":36.0,"test_ratio":37.0,"verified_prefix":38,"channels_checked":[[1,2],[0,3]],"reference":"mpfr"},
    "error_du":{"abs_max":40.0,"rel_max":41.0,"ulp_max":42.0,"ulp_p99":43.0,"rms":44.0,"ratio_local":45.0,"ratio_forward":46.0,"test_ratio":47.0,"verified_prefix":48,"channels_checked":[[1,2],[0,3]],"reference":"mpfr"},
    "error_da":{"abs_max":50.0,"rel_max":51.0,"ulp_max":52.0,"ulp_p99":53.0,"rms":54.0,"ratio_local":55.0,"ratio_forward":56.0,"test_ratio":57.0,"verified_prefix":58,"channels_checked":[[1,2],[0,3]],"reference":"mpfr"},
    "error_dh0":{"abs_max":60.0,"rel_max":61.0,"ulp_max":62.0,"ulp_p99":63.0,"rms":64.0,"ratio_local":65.0,"ratio_forward":66.0,"test_ratio":67.0,"verified_prefix":68,"channels_checked":[[1,2],[0,3]],"reference":"mpfr"},
    "error_end_to_end":{"du":{"abs_max":80.0,"rel_max":81.0,"ulp_max":82.0,"ulp_p99":83.0,"rms":84.0,"verified_prefix":85,"channels_checked":[[4,5]],"reference":"mpfr"},
    "da":{"abs_max":90.0,"rel_max":91.0,"ulp_max":92.0,"ulp_p99":93.0,"rms":94.0,"verified_prefix":95,"channels_checked":[[4,5]],"reference":"mpfr"},
    "dh0":{"abs_max":100.0,"rel_max":101.0,"ulp_max":102.0,"ulp_p99":103.0,"rms":104.0,"verified_prefix":105,"channels_checked":[[4,5]],"reference":"mpfr"}},
    "truncation":{"truncation_max":120.0,"rounding_max":121.0,"verified_prefix":122,"channels_checked":[[6,7]]},
    "speedup":{"seq_fused":{"ratio":70.0,"ci95_low":71.0,"ci95_high":72.0},"seq_stepwise":{"ratio":73.0,"ci95_low":74.0,"ci95_high":75.0}}})");
  EXPECT_EQ(row.dump(1), expected.dump(1));  // as text: the order counts too

  const Json empty = to_json(CaseRecord{});
  for (const auto& [field, value] : row.items()) EXPECT_TRUE(empty.contains(field)) << field;
  EXPECT_EQ(empty.size(), row.size());
}

TEST(Record, NamesAJacobianInThePlaceOfACell) {
  CaseRecord row = full_row();
  row.problem.op = "reduction", row.problem.cell = "2x2";
  const Json json = to_json(row);
  EXPECT_EQ(json["cell"], nullptr);
  EXPECT_EQ(json["jacobian"], "2x2");
  EXPECT_EQ(json["null_reasons"]["cell"], "op reduction has none");
  EXPECT_FALSE(json["null_reasons"].contains("jacobian"));
  EXPECT_EQ(case_record(json).problem.cell, "2x2");
  row.status = Status::ok, row.solver = "scan_chained", row.policy_solver = "", row.iterations.reset();
  EXPECT_EQ(to_json(row)["null_reasons"]["iterations"], "a scan");
  Json older = to_json(full_row());
  older.erase("jacobian");
  EXPECT_EQ(case_record(older).problem.cell, "lstm_cifg_diag");
}

TEST(Record, ComesBackFromJsonAsItWas) {
  for (const CaseRecord& row : {full_row(), CaseRecord{}}) {
    const Json json = to_json(row);
    EXPECT_EQ(to_json(case_record(json)).dump(1), json.dump(1));
    EXPECT_EQ(to_json(case_record(Json::parse(json.dump()))).dump(1), json.dump(1));
  }
  const CaseRecord back = case_record(to_json(full_row()));
  EXPECT_EQ(back.policy, full_row().policy);
  EXPECT_EQ(back.policy_solver, "newton_fused");
  EXPECT_EQ(back.problem.iteration_limit, 5);
  EXPECT_EQ(back.status, Status::not_converged);
}

TEST(Record, ReadsRowsFromBeforeTheErrorEndToEndTheTruncationAndTheVisits) {
  Json json = to_json(full_row());
  json.erase("visits");
  EXPECT_FALSE(case_record(json).visits);
  json.erase("error_end_to_end");
  json.erase("truncation");
  const CaseRecord back = case_record(json);
  EXPECT_FALSE(back.error_end_to_end);
  EXPECT_FALSE(back.truncation);
  EXPECT_EQ(case_record(to_json(full_row())).truncation->rounding_max, 121);
  EXPECT_EQ(case_record(to_json(full_row())).visits->at(1).clock_mhz, 28);
  EXPECT_EQ(back.error_dh0->abs_max, 60);
  EXPECT_EQ(back.speedup.size(), 2u);
}

TEST(Record, HasAnErrorEndToEndOfPassBothAlone) {
  CaseRecord row;
  row.status = Status::ok;
  const auto why = [&](const char* pass) {
    row.problem.pass = pass;
    return to_json(row)["null_reasons"]["error_end_to_end"];
  };
  EXPECT_EQ(why("forward"), "forward");
  EXPECT_EQ(why("backward"), "states are given");
  EXPECT_EQ(why("both"), "not measured");
  row.error_end_to_end.emplace().du.emplace().abs_max = 1;
  row.null_reasons = {{"error_end_to_end.da", "out of time"}};
  const Json json = to_json(row);
  EXPECT_EQ(json["error_end_to_end"]["du"]["abs_max"], 1);
  EXPECT_TRUE(json["error_end_to_end"]["da"].is_null());
  EXPECT_EQ(json["null_reasons"]["error_end_to_end.da"], "out of time");
  EXPECT_EQ(case_record(json).error_end_to_end->du->abs_max, 1);
  EXPECT_FALSE(case_record(json).error_end_to_end->da);
  EXPECT_FALSE(row.worst_test_ratio()) << "it is no verdict";
}

TEST(Record, SaysWhyThereIsNoTruncationAndNoExponent) {
  CaseRecord row;
  row.status = Status::ok;
  const auto why = [&](const char* field) { return to_json(row)["null_reasons"][field]; };
  EXPECT_EQ(why("truncation"), "no fixed count");
  EXPECT_EQ(why("lyapunov"), "no reference");
  EXPECT_EQ(why("jacobian_max"), "no reference");
  row.problem.iteration_limit = 3;
  EXPECT_EQ(why("truncation"), "not measured");
  row.problem.pass = "backward";
  for (const char* field : {"truncation", "lyapunov", "jacobian_max"}) EXPECT_EQ(why(field), "states are given");
}

TEST(Record, GivesAReasonForEveryNull) {
  for (const Status status : {Status::ok, Status::skipped, Status::error, Status::wrong}) {
    CaseRecord row;
    row.status = status;
    row.solver = "newton_fused";
    row.null_reasons = {{"time_s", "too short"}, {"nonsense", "no such field"}};
    const Json json = to_json(row);
    std::set<std::string> nulls, reasons;
    for (const auto& [field, value] : json.items()) {
      if (value.is_null()) nulls.insert(field);
    }
    for (const auto& [field, reason] : json["null_reasons"].items()) {
      reasons.insert(field);
      EXPECT_NE(reason, "") << field;
    }
    EXPECT_EQ(nulls, reasons);
    EXPECT_GT(nulls.size(), 20u);
    EXPECT_EQ(json["null_reasons"]["time_s"], "too short");
  }
  CaseRecord row;
  row.error.emplace();
  row.null_reasons = {{"error.ulp_p99", "too few"}, {"speedup.seq_fused", "seq_fused is wrong"}};
  const Json json = to_json(row);
  EXPECT_EQ(json["null_reasons"]["error.ulp_p99"], "too few");
  EXPECT_TRUE(json["null_reasons"].contains("error.abs_max"));
  EXPECT_TRUE(json["null_reasons"].contains("error.reference"));
  EXPECT_TRUE(json["speedup"]["seq_fused"].is_null());
  EXPECT_EQ(json["null_reasons"]["speedup.seq_fused"], "seq_fused is wrong");
  EXPECT_TRUE(case_record(json).speedup.empty());
}

TEST(Record, TurnsWhatIsNotFiniteIntoNullWithTheReason) {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  CaseRecord row;
  row.time_s.emplace().median = nan;
  row.host_s = -infinity;
  row.residual_max = {1, nan, infinity};
  row.error.emplace().ratio_local = nan;
  row.speedup["seq_fused"].ratio = infinity;
  const Json json = to_json(row);
  EXPECT_EQ(json.dump().find("nan"), json.dump().find("\"not finite: nan\"") + 13);  // only inside reasons
  const auto why = [&](const char* field) { return json["null_reasons"].value(field, ""); };
  EXPECT_TRUE(json["time_s"]["median"].is_null());
  EXPECT_EQ(why("time_s.median"), "not finite: nan");
  EXPECT_EQ(why("host_s"), "not finite: -inf");
  EXPECT_EQ(json["residual_max"][0], 1.0);
  EXPECT_TRUE(json["residual_max"][1].is_null());
  EXPECT_EQ(why("residual_max[1]"), "not finite: nan");
  EXPECT_EQ(why("residual_max[2]"), "not finite: inf");
  EXPECT_EQ(why("error.ratio_local"), "not finite: nan");
  EXPECT_EQ(why("speedup.seq_fused.ratio"), "not finite: inf");
  const CaseRecord back = case_record(Json::parse(json.dump()));
  EXPECT_TRUE(std::isnan(back.time_s->median));
  EXPECT_TRUE(std::isnan(back.residual_max.at(1)));
  EXPECT_EQ(back.host_s, std::nullopt);
}

TEST(Record, RefusesRowsThatLackAFieldOrHaveTheWrongType) {
  for (const char* field : {"cell", "status", "time_s", "policy", "null_reasons", "iteration_limit", "speedup"}) {
    Json json = to_json(full_row());
    json.erase(field);
    EXPECT_EQ(refusal([&] { case_record(json); }), "missing field '" + std::string(field) + "'");
  }
  const auto with = [](const char* field, const Json& value) {
    Json json = to_json(full_row());
    json[field] = value;
    return refusal([&] { case_record(json); });
  };
  EXPECT_EQ(with("batch", "two"), "field 'batch' has the wrong type");
  EXPECT_EQ(with("status", "fine"), "field 'status' has an unknown value");
  EXPECT_EQ(with("storage", 3), "field 'storage' has an unknown value");
  EXPECT_EQ(with("time_s", Json::object()), "missing field 'median'");
  EXPECT_EQ(with("record", "provenance"), "expected a record \"case\"");
  const auto visits = [&](const std::vector<std::pair<int, int>>& samples_and_process) {
    Json list = Json::array();
    for (const auto& [samples, process] : samples_and_process) list.push_back({{"samples", samples}, {"process", process}, {"clock_mhz", nullptr}});
    return with("visits", list);
  };
  EXPECT_EQ(visits({{2, 0}}), "accepted");
  EXPECT_EQ(visits({{1, 0}}), "field 'visits' has 1 samples; samples_s has 2");
  EXPECT_EQ(visits({{2, 0}, {1, 0}}), "field 'visits' has 3 samples; samples_s has 2");
  for (const auto& bad : {std::pair{0, 0}, {3, 0}, {1, -1}}) EXPECT_EQ(visits({{1, 0}, bad}), "field 'visits' has an unknown value");
  EXPECT_EQ(with("visits", 7), "field 'visits' has the wrong type");
}

TEST(Record, TakesItsIdentityFromThePlan) {
  const Suite suite = parse_suite("dir/t.toml", "title = \"t\"\ncells = \"gru_diag\"\nsolvers = \"seq_fused\"\niteration_limit = [\"adaptive\", 1]\nexpect = \"wrong\"");
  const Group group = make_plan(suite, {})[0];
  GpuInfo gpu;
  gpu.name = "H200";
  const CaseRecord row = record_of(group.cases[0], suite, gpu);
  EXPECT_EQ(row.suite, "t");
  EXPECT_EQ(row.solver, "seq_fused");
  EXPECT_EQ(row.device, "cpu");
  EXPECT_EQ(row.cache, "rotating");
  EXPECT_EQ(row.gpu_name, "H200");
  EXPECT_EQ(row.group_id, group.group_id);
  EXPECT_EQ(row.case_id, group.cases[0].case_id);
  EXPECT_EQ(row.expected_status, Status::wrong);
  EXPECT_EQ(row.status, Status::error);
  EXPECT_EQ(record_of(group.cases[0], suite, {}).gpu_name, std::nullopt);
  const CaseRecord skipped = record_of(group.cases[1], suite, {});
  EXPECT_EQ(skipped.status, Status::skipped);
  EXPECT_EQ(skipped.reason, group.cases[1].skip);
}

Suite suite_of(const std::string& rest = "") {
  return parse_suite("dir/t.toml", "title = \"t\"\ncells = \"gru_diag\"\nsolvers = [\"seq_fused\", \"newton_fused\"]\nseq_len = [1, 2, 3]\n" + rest);
}

TEST(Provenance, SaysWhereTheNumbersComeFrom) {
  GpuInfo gpu;
  gpu.name = "H200", gpu.driver = "580", gpu.sm = 90, gpu.memory_bytes = 7, gpu.clock_mhz = 1980;
  Provenance p = provenance_here(suite_of(), "prnn run t.toml", "cuda", gpu);
  p.order_seed = 42, p.copy_bytes_per_s = 4e12, p.launch_s = 2e-6;
  const Json json = to_json(p);
  std::vector<std::string> keys;
  for (const auto& [key, value] : json.items()) keys.push_back(key);
  EXPECT_EQ(keys, (std::vector<std::string>{"record",     "schema",           "time_utc", "command",      "commit",      "dirty", "build", "machine",          "gpu",  "suite",
                                            "order_seed", "copy_bytes_per_s", "launch_s", "error_factor", "fingerprint", "text",  "shard", "interleaved_with", "cell", "inject"}));
  EXPECT_EQ(json["record"], "provenance");
  EXPECT_EQ(json["schema"], 1);
  EXPECT_EQ(json["command"], "prnn run t.toml");
  EXPECT_EQ(json["gpu"].dump(), R"({"name":"H200","sm":90,"driver":"580","memory_bytes":7,"clock_mhz":1980.0})");
  EXPECT_EQ(json["suite"]["path"], "dir/t.toml");
  EXPECT_EQ(json["suite"]["sha256"], suite_of().sha256);
  EXPECT_EQ(json["suite"]["text"], suite_of().text);
  EXPECT_EQ(json["order_seed"], 42);
  EXPECT_EQ(json["copy_bytes_per_s"], 4e12);
  EXPECT_EQ(json["launch_s"], 2e-6);
  for (const char* key : {"compiler", "flags", "cuda"}) EXPECT_NE(json["build"].value(key, ""), "") << key;
  EXPECT_NE(json["machine"].value("cpu", ""), "");
  EXPECT_NE(json["machine"].value("os", ""), "");
  EXPECT_GE(json["machine"].value("cores", 0), 1);
  EXPECT_EQ(json["time_utc"].get<std::string>().size(), 20u);
  EXPECT_EQ(to_json(provenance(json)).dump(), json.dump());

  EXPECT_TRUE(json["interleaved_with"].is_null() && json["cell"].is_null() && json["inject"].is_null());
  p.interleaved_with = Interleaved{"0123456789abcdef", 1, "other/prnn", "c0ffee"};
  p.inject = "slowdown=0.03";
  p.cell = {{"path", "x.hpp"}, {"sha256", "12"}, {"text", "struct X"}};
  const Json pair = to_json(p);
  EXPECT_EQ(pair["interleaved_with"].dump(), R"({"session":"0123456789abcdef","side":1,"program":"other/prnn","commit":"c0ffee"})");
  EXPECT_EQ(pair["inject"], "slowdown=0.03");
  EXPECT_EQ(pair["cell"].dump(), R"({"path":"x.hpp","sha256":"12","text":"struct X"})");
  Json nameless = pair;
  nameless["cell"].erase("sha256");
  EXPECT_EQ(refusal([&] { provenance(nameless); }), "cell: expected path, sha256 and text");
  EXPECT_EQ(to_json(provenance(pair)).dump(), pair.dump());
  Json before = json;  // these came later
  before.erase("interleaved_with"), before.erase("cell"), before.erase("inject");
  EXPECT_EQ(to_json(provenance(before)).dump(), json.dump());

  const Provenance none = provenance_here(suite_of(), "c", "cpu", {});
  EXPECT_TRUE(to_json(none)["gpu"].is_null());
  EXPECT_TRUE(to_json(none)["launch_s"].is_null());
  EXPECT_EQ(to_json(provenance(to_json(none))).dump(), to_json(none).dump());
  EXPECT_EQ(refusal([] { provenance(Json::object()); }), "expected a record \"provenance\"");
  Json newer = json;
  newer["schema"] = 2;
  EXPECT_EQ(refusal([&] { provenance(newer); }), "expected schema 1");
}

TEST(Provenance, HasAFingerprintOfTheMachineAndBuildAlone) {
  GpuInfo gpu;
  gpu.name = "H200", gpu.driver = "580", gpu.sm = 90, gpu.memory_bytes = 7, gpu.clock_mhz = 1980;
  const auto fingerprint = [](const std::string& device, const std::optional<GpuInfo>& g, const std::string& rest = "") {
    return provenance_here(suite_of(rest), "c", device, g).fingerprint;
  };
  const std::string base = fingerprint("cuda", gpu);
  EXPECT_EQ(base.size(), 16u);
  EXPECT_EQ(fingerprint("cuda", gpu, "batch = 3"), base);
  GpuInfo other = gpu;
  other.clock_mhz = 1200;
  EXPECT_EQ(fingerprint("cuda", other), base);
  EXPECT_NE(fingerprint("cpu", {}), fingerprint("emulated", {}));
  EXPECT_NE(fingerprint("cuda", {}), base);
  other = gpu, other.name = "H100";
  EXPECT_NE(fingerprint("cuda", other), base);
  other = gpu, other.driver = "570";
  EXPECT_NE(fingerprint("cuda", other), base);
  other = gpu, other.sm = 80;
  EXPECT_NE(fingerprint("cuda", other), base);
  other = gpu, other.memory_bytes = 8;
  EXPECT_NE(fingerprint("cuda", other), base);
}

TEST(Provenance, NamesTheTextOfTheRegimeText) {
  const Suite s = parse_suite(PRNN_SOURCE_DIR "/suites/t.toml", "title = \"t\"\ncells = \"gru_diag\"\nsolvers = \"seq_fused\"\nregime = \"text\"\ntext_file = \"../LICENSE\"");
  const auto text = provenance_here(s, "c", "cpu", {}).text;
  EXPECT_EQ(text.at("file"), s.text_file);
  EXPECT_EQ(text.at("package"), "none");
  EXPECT_EQ(text.at("bytes"), std::to_string(fs::file_size(s.text_file)));
  EXPECT_EQ(text.at("sha256").size(), 64u);
  EXPECT_TRUE(provenance_here(suite_of(), "c", "cpu", {}).text.empty());
}

// --- files ---------------------------------------------------------------------------------------------------------------

std::vector<CaseRecord> rows_of(const Group& group, Status status = Status::ok) {
  std::vector<CaseRecord> rows;
  for (const Case& c : group.cases) {
    rows.push_back(record_of(c, suite_of(), {}));
    rows.back().status = status;
  }
  return rows;
}

/// A record of the whole plan of suite_of().
std::string write_all_of(const std::string& path, Status status = Status::ok) {
  RecordWriter writer = RecordWriter::create(path);
  writer.write(provenance_here(suite_of(), "c", "cpu", {}));
  for (const Group& group : make_plan(suite_of(), {})) writer.write(rows_of(group, status));
  return content(path);
}

TEST(RecordFile, IsOneLineARecordAndReadsBack) {
  const Folder folder;
  const std::string path = folder / "new/deep/r.jsonl";
  const std::string text = write_all_of(path);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 7);
  EXPECT_EQ(text.back(), '\n');
  const Records records = read_records(path);
  EXPECT_EQ(records.head.suite_sha256, suite_of().sha256);
  ASSERT_EQ(records.rows.size(), 6u);
  EXPECT_EQ(records.rows[3].solver, "newton_fused");
  EXPECT_EQ(records.rows[3].problem.seq_len, 2);
  EXPECT_EQ(records.whole_bytes, std::int64_t(text.size()));
}

TEST(RecordFile, IsNeverOverwrittenAndSaysWhyItCannotBeWritten) {
  const Folder folder;
  const std::string path = folder / "r.jsonl";
  put(path, "precious");
  EXPECT_EQ(refusal([&] { RecordWriter::create(path); }), "--out " + path + ": the file exists; expected a new name, or --resume to continue it");
  EXPECT_EQ(content(path), "precious");
  EXPECT_TRUE(refusal([&] { RecordWriter::create(path + "/x/y.jsonl"); }).starts_with("--out " + path + "/x/y.jsonl: the directory cannot be made"));
  EXPECT_TRUE(refusal([&] { RecordWriter::append(folder / "none"); }).find("cannot be written") != std::string::npos);
  EXPECT_TRUE(refusal([&] { read_records(folder / "none"); }).find("no such file") != std::string::npos);
}

TEST(RecordFile, AppendsToItsEnd) {
  const Folder folder;
  const std::string path = folder / "r.jsonl", before = write_all_of(path);
  RecordWriter::append(path).write(rows_of(make_plan(suite_of(), {})[0]));
  EXPECT_EQ(content(path).substr(0, before.size()), before);
  EXPECT_EQ(read_records(path).rows.size(), 8u);
}

TEST(RecordFile, ReportsAFullDisk) {
  RecordWriter writer = RecordWriter::append("/dev/full");
  try {
    writer.write(provenance_here(suite_of(), "c", "cpu", {}));
    FAIL() << "a write to a full disk was taken for done";
  } catch (const DiskFull& error) {
    EXPECT_NE(std::string(error.what()).find("/dev/full: No space left"), std::string::npos) << error.what();
  }
}

TEST(RecordFile, DropsALastLineCutShort) {
  const Folder folder;
  const std::string path = folder / "r.jsonl", whole = write_all_of(path);
  const std::size_t last = whole.rfind('\n', whole.size() - 2) + 1;
  for (const std::size_t size : {last + 1, last + 20, whole.size() - 1}) {
    put(path, whole.substr(0, size));
    const Records records = read_records(path);
    EXPECT_EQ(records.rows.size(), 5u);
    EXPECT_EQ(records.whole_bytes, std::int64_t(last));
  }
}

TEST(RecordFile, RefusesAnyOtherBrokenLine) {
  const Folder folder;
  const std::string path = folder / "r.jsonl", whole = write_all_of(path);
  const std::size_t first = whole.find('\n') + 1;
  put(path, whole.substr(0, first) + "{\"record\":\n" + whole.substr(first));
  EXPECT_EQ(refusal([&] { read_records(path); }), path + ":2: not JSON; expected one record a line");
  put(path, whole.substr(0, first) + "{\"record\":\"case\"}\n");
  EXPECT_EQ(refusal([&] { read_records(path); }), path + ":2: missing field 'op'");
  put(path, whole.substr(first));
  EXPECT_EQ(refusal([&] { read_records(path); }), path + ":1: expected a record \"provenance\"");
}

// --- resume --------------------------------------------------------------------------------------------------------------

Resumed resumed(const std::string& path, const Suite& suite = suite_of()) { return resume(path, provenance_here(suite, "c", "cpu", {}), make_plan(suite, {})); }

TEST(Resume, LeavesAFinishedRecordAsItIs) {
  const Folder folder;
  const std::string path = folder / "r.jsonl", before = write_all_of(path);
  const Resumed todo = resumed(path);
  EXPECT_TRUE(todo.groups.empty());
  EXPECT_EQ(todo.done.size(), 6u);
  EXPECT_EQ(content(path), before);
  EXPECT_FALSE(fs::exists(path + ".resume"));
}

TEST(Resume, RunsAGroupAgainThatIsOnlyPartlyThere) {
  const Folder folder;
  const std::string path = folder / "r.jsonl", whole = write_all_of(path);
  const Records all = read_records(path);
  put(path, whole.substr(0, whole.size() - 10));  // the last row of the last group is cut
  const Resumed todo = resumed(path);
  ASSERT_EQ(todo.groups.size(), 1u);
  EXPECT_EQ(todo.groups[0].cases.size(), 2u);
  EXPECT_EQ(todo.groups[0].cases[0].problem.seq_len, 3);
  EXPECT_EQ(todo.done.size(), 4u);
  EXPECT_EQ(content(path), all.head_line + "\n" + all.lines[0] + "\n" + all.lines[1] + "\n" + all.lines[2] + "\n" + all.lines[3] + "\n");
  RecordWriter::append(path).write(rows_of(todo.groups[0]));
  EXPECT_EQ(read_records(path).rows.size(), 6u);
  EXPECT_TRUE(resumed(path).groups.empty());
}

TEST(Resume, RunsErrorAndTimeoutRowsAgainAndNoOthers) {
  for (const Status status : {Status::ok, Status::skipped, Status::wrong, Status::not_converged, Status::error, Status::timeout}) {
    const Folder folder;
    const std::string path = folder / "r.jsonl";
    {
      RecordWriter writer = RecordWriter::create(path);
      writer.write(provenance_here(suite_of(), "c", "cpu", {}));
      for (const Group& group : make_plan(suite_of(), {})) {
        std::vector<CaseRecord> rows = rows_of(group);
        if (group.cases[0].problem.seq_len == 2) rows[1].status = status;
        writer.write(rows);
      }
    }
    const Resumed todo = resumed(path);
    const bool again = status == Status::error || status == Status::timeout;
    EXPECT_EQ(todo.groups.size(), again ? 1u : 0u) << to_string(status);
    EXPECT_EQ(read_records(path).rows.size(), again ? 4u : 6u);
    EXPECT_EQ(todo.done.size(), again ? 4u : 6u);
  }
}

TEST(Resume, KeepsFailedRowsOfARunThatGoesOnByItself) {
  const Folder folder;
  const std::string path = folder / "r.jsonl";
  const std::vector<Group> plan = make_plan(suite_of(), {});
  {
    RecordWriter writer = RecordWriter::create(path);
    writer.write(provenance_here(suite_of(), "c", "cpu", {}));
    std::vector<CaseRecord> rows = rows_of(plan[0]);
    rows[0].status = Status::error;
    rows[1].status = Status::timeout;
    writer.write(rows);
  }
  const Resumed todo = resume(path, provenance_here(suite_of(), "c", "cpu", {}), plan, true);
  EXPECT_EQ(todo.groups.size(), plan.size() - 1);
  EXPECT_EQ(todo.done.size(), 2u);
  EXPECT_EQ(read_records(path).rows.size(), 2u);
}

TEST(Resume, KeepsRowsThatThisPlanDoesNotHave) {
  const Folder folder;
  const std::string path = folder / "r.jsonl";
  write_all_of(path, Status::error);
  PlanOptions options;
  options.only = "L2/";
  const Resumed todo = resume(path, provenance_here(suite_of(), "c", "cpu", {}), make_plan(suite_of(), options));
  EXPECT_EQ(todo.groups.size(), 1u);
  EXPECT_TRUE(todo.done.empty());
  EXPECT_EQ(read_records(path).rows.size(), 4u);
}

TEST(Resume, StartsOverWhereNotEvenTheFirstLineIsWhole) {
  for (const std::string& text : {std::string(), std::string("{\"record\":\"prov")}) {
    const Folder folder;
    const std::string path = folder / "r.jsonl";
    put(path, text);
    EXPECT_EQ(resumed(path).groups.size(), 3u);
    EXPECT_EQ(read_records(path).head.suite_sha256, suite_of().sha256);
    EXPECT_TRUE(read_records(path).rows.empty());
  }
}

TEST(Resume, RefusesAFileOfAnotherSuiteMachineOrCommit) {
  const Folder folder;
  const std::string path = folder / "r.jsonl", before = write_all_of(path);
  EXPECT_TRUE(refusal([&] { resumed(path, suite_of("batch = 2")); }).starts_with("--resume: " + path + " is of another suite ("));
  Provenance now = provenance_here(suite_of(), "c", "cpu", {});
  now.fingerprint = "other";
  EXPECT_TRUE(refusal([&] { resume(path, now, {}); }).starts_with("--resume: " + path + " is of another machine or build ("));
  now = provenance_here(suite_of(), "c", "cpu", {});
  now.commit = "other";
  EXPECT_TRUE(refusal([&] { resume(path, now, {}); }).starts_with("--resume: " + path + " is of another commit ("));
  now = provenance_here(suite_of(), "c", "cpu", {});
  now.text = {{"sha256", "other"}};
  EXPECT_TRUE(refusal([&] { resume(path, now, {}); }).starts_with("--resume: " + path + " is of another text ("));
  now = provenance_here(suite_of(), "c", "cpu", {});
  now.copy_bytes_per_s = 1e9;
  EXPECT_TRUE(refusal([&] { resume(path, now, {}); }).starts_with("--resume: " + path + " is of another kind of run (verified only)"));
  EXPECT_EQ(content(path), before);
}

// --- exit codes ----------------------------------------------------------------------------------------------------------

CaseRecord judged(Status status, Status expected = Status::ok, const std::string& reason = "") {
  CaseRecord row;
  row.status = status, row.expected_status = expected, row.reason = reason, row.case_id = "a";
  return row;
}

TEST(ExitCode, CountsOnlyWhatDiffersFromTheExpectation) {
  const std::string undefined = undefined_combination("x"), memory = too_large("x");
  // rows: status; columns: expected ok, wrong, not_converged
  const std::vector<std::pair<CaseRecord, std::array<int, 3>>> table = {{judged(Status::ok), {0, 2, 3}},
                                                                        {judged(Status::wrong), {2, 0, 2}},
                                                                        {judged(Status::not_converged), {3, 3, 0}},
                                                                        {judged(Status::error), {5, 5, 5}},
                                                                        {judged(Status::timeout), {5, 5, 5}},
                                                                        {judged(Status::skipped, {}, "who knows"), {5, 5, 5}},
                                                                        {judged(Status::skipped, {}, undefined), {0, 0, 0}},
                                                                        {judged(Status::skipped, {}, memory), {0, 0, 0}}};
  for (auto [row, codes] : table) {
    const Status expectations[] = {Status::ok, Status::wrong, Status::not_converged};
    for (int i = 0; i < 3; ++i) {
      row.expected_status = expectations[i];
      EXPECT_EQ(exit_code({row}, {"a"}), codes[i]) << to_string(row.status) << " expected " << to_string(row.expected_status);
    }
  }
}

TEST(ExitCode, IsTheFirstOfTheContractsOrder) {
  const CaseRecord ok = judged(Status::ok), wrong = judged(Status::wrong), error = judged(Status::error), slow = judged(Status::not_converged);
  EXPECT_EQ(exit_code({}, {}), 0);
  EXPECT_EQ(exit_code({ok}, {"a"}), 0);
  EXPECT_EQ(exit_code({ok, slow}, {"a"}), 3);
  EXPECT_EQ(exit_code({ok, slow, error}, {"a"}), 5);
  EXPECT_EQ(exit_code({ok, slow, error, wrong}, {"a"}), 2);
  EXPECT_EQ(exit_code({wrong, slow}, {"a"}), 2);
  EXPECT_EQ(exit_code({wrong}, {"a", "b"}), 2);
  EXPECT_EQ(exit_code({slow}, {"a", "b"}), 5);
  EXPECT_EQ(exit_code({ok}, {"a", "b"}), 5);
  EXPECT_EQ(exit_code({}, {"a"}), 5);
}

}  // namespace
}  // namespace prnn
