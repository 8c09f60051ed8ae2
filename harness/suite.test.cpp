// suite.test.cpp: what a suite may say and what it means; every refusal names file, line and what was expected.
#include "harness/suite.hpp"

#include <gtest/gtest.h>
#include <algorithm>
#include <filesystem>
#include <set>
#include <type_traits>

#include "harness/sha256.hpp"

namespace prnn {
namespace {

template <class T>
testing::AssertionResult is(const std::vector<T>& values, std::initializer_list<std::type_identity_t<T>> expected) {
  if (std::equal(values.begin(), values.end(), expected.begin(), expected.end())) return testing::AssertionSuccess();
  return testing::AssertionFailure() << testing::PrintToString(values);
}
testing::AssertionResult says(const std::string& text, const std::string& start, const std::string& part = "") {
  if (text.starts_with(start) && text.find(part) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << text;
}

const std::string kHead = "title = \"t\"\ncells = [\"gru_diag\"]\nsolvers = [\"seq_fused\"]\n";  // what follows it starts on line 4

Suite suite(const std::string& rest, const std::vector<Override>& overrides = {}) { return parse_suite("dir/t.toml", kHead + rest, overrides); }
Axes axes(const std::string& rest) { return suite(rest).grids.at(0).axes; }

std::string refusal_of_file(const std::string& text, const std::vector<Override>& overrides = {}) {
  try {
    parse_suite("dir/t.toml", text, overrides);
  } catch (const BadInput& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  return "accepted";
}
std::string refusal(const std::string& rest, const std::vector<Override>& overrides = {}) { return refusal_of_file(kHead + rest, overrides); }

TEST(Suite, HasTheDefaultsOfTheContract) {
  const Suite s = suite("");
  EXPECT_EQ(s.name, "t");
  EXPECT_EQ(s.path, "dir/t.toml");
  EXPECT_EQ(s.text, kHead);
  EXPECT_EQ(s.sha256, sha256(kHead));
  EXPECT_EQ(s.title, "t");
  EXPECT_EQ(s.protocol, "ours");
  EXPECT_TRUE(s.metric_error && s.metric_newton && s.metric_time);
  EXPECT_TRUE(s.baselines.empty());
  EXPECT_EQ(s.limits.case_s, 20);
  EXPECT_EQ(s.limits.total_s, 600);
  EXPECT_EQ(s.limits.bytes, 8'000'000'000);
  EXPECT_EQ(s.limits.reference_s, 60);
  EXPECT_EQ(s.text_bytes, nullptr);
  ASSERT_EQ(s.grids.size(), 1u);
  EXPECT_EQ(s.grids[0].expect, Status::ok);
  const Axes& a = s.grids[0].axes;
  EXPECT_TRUE(is(a.op, {"recurrence"}));
  EXPECT_TRUE(is(a.scope, {"kernel"}));
  EXPECT_TRUE(is(a.cells, {"gru_diag"}));
  EXPECT_TRUE(is(a.solvers, {"seq_fused"}));
  EXPECT_TRUE(is(a.passes, {"forward"}));
  EXPECT_TRUE(is(a.grad, {"all"}));
  EXPECT_TRUE(is(a.storage, {Storage::f32}));
  EXPECT_TRUE(is(a.batch, {1}));
  EXPECT_TRUE(is(a.hidden, {64}));
  EXPECT_TRUE(is(a.seq_len, {256}));
  EXPECT_TRUE(is(a.regime, {"paper"}));
  EXPECT_TRUE(is(a.weight_std, {std::nullopt}));
  EXPECT_TRUE(is(a.h0, {"zero"}));
  EXPECT_TRUE(is(a.seed, {1u}));
  EXPECT_TRUE(is(a.gates, {"exact"}));
  EXPECT_TRUE(is(a.iteration_limit, {std::nullopt}));
  EXPECT_TRUE(is(a.cache, {"rotating"}));
  EXPECT_TRUE(a.policy.empty());
}

TEST(Suite, TakesScalarsListsAndRangesWithBothEnds) {
  EXPECT_TRUE(is(axes("seq_len = { pow2 = [2, 5] }").seq_len, {4, 8, 16, 32}));
  EXPECT_TRUE(is(axes("seq_len = { pow2 = [0, 0] }").seq_len, {1}));
  EXPECT_TRUE(is(axes("batch = 7").batch, {7}));
  EXPECT_TRUE(is(axes("hidden = [3, 1, 2]").hidden, {3, 1, 2}));
  EXPECT_TRUE(is(axes("regime = \"corners\"").regime, {"corners"}));
  EXPECT_TRUE(is(axes("storage = [\"f16\", \"f64\", \"bf16\"]").storage, {Storage::f16, Storage::f64, Storage::bf16}));
  EXPECT_TRUE(is(axes("weight_std = [0.25, 1]").weight_std, {0.25, 1.0}));
  EXPECT_TRUE(is(axes("iteration_limit = [\"adaptive\", 3]").iteration_limit, {std::nullopt, 3}));
  EXPECT_TRUE(is(axes("seed = [0, 9223372036854775807]").seed, {0u, 9223372036854775807u}));
  EXPECT_TRUE(is(axes("cache = [\"hot\", \"rotating\"]").cache, {"hot", "rotating"}));
  EXPECT_TRUE(is(axes("h0 = \"random\"").h0, {"random"}));
  EXPECT_TRUE(is(axes("grad = [\"squares\", \"output\", \"all\"]").grad, {"squares", "output", "all"}));
  const auto policy = axes("policy = { threads = 64, steps_a_thread = [1, 2], prefetch = 8 }").policy;
  EXPECT_TRUE(is(policy.at("prefetch"), {8}));
  EXPECT_TRUE(is(policy.at("threads"), {64}));
  EXPECT_TRUE(is(policy.at("steps_a_thread"), {1, 2}));
}

TEST(Suite, ExpandsAllToEverySolverOfTheBuild) {
  EXPECT_EQ(parse_suite("t.toml", "title = \"t\"\ncells = \"gru_diag\"\nsolvers = \"all\"", {}).grids[0].axes.solvers, solver_names());
  EXPECT_EQ(refusal_of_file("title = \"t\"\ncells = \"gru_diag\"\nsolvers = [\"all\", \"seq_fused\"]"), "dir/t.toml:3: solvers: \"all\" stands alone");
}

TEST(Suite, ReadsWhatIsNoAxis) {
  const Suite s = suite(
      "baselines = [\"seq_stepwise\"]\nmetrics = [\"error\"]\nprotocol = \"paper\"\nexpect = \"not_converged\"\nlimits = { case_s = 1.5, bytes = 1e3, total_s = 2, reference_s = 3 "
      "}");
  EXPECT_TRUE(is(s.baselines, {"seq_stepwise"}));
  EXPECT_TRUE(suite("baselines = []").baselines.empty());
  EXPECT_TRUE(s.metric_error);
  EXPECT_FALSE(s.metric_newton);
  EXPECT_FALSE(s.metric_time);
  EXPECT_EQ(s.protocol, "paper");
  EXPECT_EQ(s.grids[0].expect, Status::not_converged);
  EXPECT_EQ(s.limits.case_s, 1.5);
  EXPECT_EQ(s.limits.bytes, 1000);
  EXPECT_EQ(s.limits.total_s, 2);
  EXPECT_EQ(s.limits.reference_s, 3);
  EXPECT_TRUE(suite("metrics = [\"newton\"]").metric_newton);
  EXPECT_TRUE(suite("metrics = [\"time\"]").metric_time);
}

TEST(SuitePoint, TakesOneValueForTheAxesNamedAndTheFirstOfTheOthers) {
  const Suite s = suite(
      "storage = [\"f32\", \"f64\"]\nbatch = [2, 4]\nhidden = [8, 16]\nseq_len = [32, 64]\nregime = [\"wide\", \"paper\"]\nseed = [5, 6]\nh0 = [\"random\", \"zero\"]\n"
      "weight_std = [0.5, 1]\niteration_limit = [\"adaptive\", 2]\ncache = [\"hot\", \"rotating\"]\npolicy = { threads = [32, 64] }\n"
      "[[point]]\nbatch = 3\nseq_len = [5000]\n[[point]]\niteration_limit = 1\nexpect = \"wrong\"\n");
  ASSERT_EQ(s.grids.size(), 3u);
  EXPECT_EQ(s.grids[0].axes.batch.size(), 2u);
  const Axes& a = s.grids[1].axes;
  EXPECT_EQ(s.grids[1].expect, Status::ok);
  EXPECT_TRUE(is(a.batch, {3}));
  EXPECT_TRUE(is(a.seq_len, {5000}));
  EXPECT_TRUE(is(a.hidden, {8}));
  EXPECT_TRUE(is(a.regime, {"wide"}));
  EXPECT_TRUE(is(a.seed, {5u}));
  EXPECT_TRUE(is(a.h0, {"random"}));
  EXPECT_TRUE(is(a.weight_std, {0.5}));
  EXPECT_TRUE(is(a.iteration_limit, {std::nullopt}));
  EXPECT_TRUE(is(a.cache, {"hot"}));
  EXPECT_TRUE(is(a.policy.at("threads"), {32}));
  EXPECT_TRUE(is(a.storage, {Storage::f32, Storage::f64}));
  EXPECT_TRUE(is(a.cells, {"gru_diag"}));
  EXPECT_TRUE(is(a.solvers, {"seq_fused"}));
  EXPECT_EQ(s.grids[2].expect, Status::wrong);
  EXPECT_TRUE(is(s.grids[2].axes.iteration_limit, {1}));
  EXPECT_TRUE(is(s.grids[2].axes.seq_len, {32}));

  EXPECT_EQ(refusal("[[point]]\nbatch = [1, 2]"), "dir/t.toml:5: batch: expected one value, not 2");
  EXPECT_EQ(refusal("[[point]]\nhiden = 1"), "dir/t.toml:5: unknown key 'hiden' in point; did you mean 'hidden'?");
  EXPECT_TRUE(says(refusal("[[point]]\ntitle = \"x\""), "dir/t.toml:5: unknown key 'title' in point"));
  EXPECT_TRUE(says(refusal("point = 3"), "dir/t.toml:4: point: expected tables"));
  EXPECT_EQ(suite("expect = \"wrong\"\n[[point]]\nbatch = 2").grids[1].expect, Status::wrong);
}

TEST(SuiteOverride, ReplacesAnAxisByTheSameChecks) {
  EXPECT_EQ(parse_override("seq_len=1,2"), Override("seq_len", "1,2"));
  EXPECT_EQ(parse_override("a=b=c"), Override("a", "b=c"));
  for (const char* bad : {"seq_len", "=1", "seq_len=", ""}) EXPECT_THROW(parse_override(bad), BadInput) << bad;

  EXPECT_TRUE(is(suite("seq_len = 9", {{"seq_len", "32,64"}}).grids[0].axes.seq_len, {32, 64}));
  EXPECT_TRUE(is(suite("", {{"seq_len", "{ pow2 = [1, 3] }"}}).grids[0].axes.seq_len, {2, 4, 8}));
  EXPECT_TRUE(is(suite("", {{"seq_len", "[7, 5]"}}).grids[0].axes.seq_len, {7, 5}));
  EXPECT_TRUE(is(suite("", {{"regime", "wide,paper"}}).grids[0].axes.regime, {"wide", "paper"}));
  EXPECT_TRUE(is(suite("", {{"weight_std", "0.5"}}).grids[0].axes.weight_std, {0.5}));
  EXPECT_TRUE(is(suite("", {{"iteration_limit", "adaptive,4"}}).grids[0].axes.iteration_limit, {std::nullopt, 4}));
  EXPECT_EQ(suite("policy = { threads = 32 }", {{"policy.steps_a_thread", "2"}}).grids[0].axes.policy.size(), 2u);
  EXPECT_TRUE(is(suite("[[point]]\nbatch = 2", {{"seq_len", "8"}}).grids[1].axes.seq_len, {8}));
  EXPECT_TRUE(is(suite("[[point]]\nseq_len = 4", {{"seq_len", "8"}}).grids[1].axes.seq_len, {4}));

  EXPECT_EQ(refusal("", {{"seq_len", "0"}}), "--set seq_len=0: seq_len: 0 is outside 1 .. 4294967295");
  EXPECT_EQ(refusal("", {{"sek_len", "1"}}), "--set sek_len=1: unknown axis 'sek_len'; did you mean 'seq_len'?");
  EXPECT_TRUE(says(refusal("", {{"title", "x"}}), "--set title=x: unknown axis 'title'"));
  EXPECT_TRUE(says(refusal("", {{"hidden", "1"}, {"batch", "1"}, {"hidden", "2"}}), "--set hidden=2: 'hidden' is set twice"));
  EXPECT_TRUE(says(refusal("", {{"policy", "1"}}), "--set policy=1: expected a key of the policy"));
  EXPECT_TRUE(says(refusal("", {{"seq_len.x", "1"}}), "--set seq_len.x=1: unknown axis"));
  EXPECT_TRUE(says(refusal("", {{"seq_len", "1,,2"}}), "--set seq_len=1,,2: expected"));
  EXPECT_TRUE(says(refusal("", {{"seq_len", "1,"}}), "--set seq_len=1,: expected"));
  EXPECT_TRUE(says(refusal("", {{"seq_len", "[1"}}), "--set seq_len=[1: "));
  EXPECT_TRUE(says(refusal("", {{"cells", "gru_dag"}}), "", "unknown cell 'gru_dag'; did you mean 'gru_diag'?"));
}

TEST(SuiteRefusal, NamesTheNearestKeyOrValue) {
  EXPECT_EQ(refusal("hiden = 3"), "dir/t.toml:4: unknown key 'hiden' in suite; did you mean 'hidden'?");
  EXPECT_EQ(refusal("batch = 1\n\nregime = [\"paper\", \"cornes\"]"), "dir/t.toml:6: unknown regime 'cornes'; did you mean 'corners'?");
  EXPECT_TRUE(says(refusal("weather = \"fine\""), "dir/t.toml:4: unknown key 'weather' in suite", "known:"));
  EXPECT_EQ(refusal("storage = \"fp32\""), "dir/t.toml:4: unknown storage 'fp32'; did you mean 'f32'?");
  EXPECT_TRUE(says(refusal("[table]\na = 1"), "dir/t.toml:4: unknown key 'table' in suite"));
  const auto value = [](const std::string& line, const std::string& what) { EXPECT_TRUE(says(refusal(line), "dir/t.toml:4: " + what)) << line; };
  value("h0 = \"zeros\"", "unknown h0 'zeros'; did you mean 'zero'?");
  value("cache = \"cold\"", "unknown cache 'cold'");
  value("gates = \"exakt\"", "unknown gates 'exakt'; did you mean 'exact'?");
  value("passes = \"forwards\"", "unknown pass 'forwards'; did you mean 'forward'?");
  value("passes = [\"both\", \"backwards\"]", "unknown pass 'backwards'; did you mean 'backward'?");
  value("op = \"recurence\"", "unknown op 'recurence'; did you mean 'recurrence'?");
  value("scope = \"kernal\"", "unknown scope 'kernal'; did you mean 'kernel'?");
  value("grad = \"al\"", "unknown grad 'al'; did you mean 'all'?");
  value("baselines = \"seq_fusd\"", "unknown solver 'seq_fusd'; did you mean 'seq_fused'?");
  value("baselines = \"all\"", "unknown solver 'all'");
  value("metrics = \"tim\"", "unknown metric 'tim'; did you mean 'time'?");
  value("protocol = \"theirs\"", "unknown protocol 'theirs'");
  value("expect = \"timeout\"", "unknown expect 'timeout'");
  value("iteration_limit = \"adaptiv\"", "unknown iteration_limit 'adaptiv'; did you mean 'adaptive'?");
  value("policy = { thread = 32 }", "unknown policy 'thread'; did you mean 'threads'?");
  value("limits = { case = 32 }", "unknown key 'case' in limits; did you mean 'case_s'?");
  EXPECT_EQ(refusal_of_file("title = \"t\"\ncells = [\"gru\"]\nsolvers = [\"seq_fused\"]").substr(0, 33), "dir/t.toml:2: unknown cell 'gru';");
  EXPECT_EQ(refusal_of_file("title = \"t\"\ncells = [\"gru_diag\"]\nsolvers = [\"newton_fussed\"]"), "dir/t.toml:3: unknown solver 'newton_fussed'; did you mean 'newton_fused'?");
}

TEST(SuiteRefusal, KeepsWhatLaterIssuesBringApartFromTypingErrors) {
  for (const auto& [line, what] : std::vector<std::pair<std::string, std::string>>{{"scope = \"layer\"", "scope 'layer'"}, {"policy = { unroll = 4 }", "policy 'unroll'"}}) {
    EXPECT_EQ(refusal(line), "dir/t.toml:4: " + what + " is not part of this build yet");
  }
  EXPECT_EQ(refusal("", {{"scope", "layer"}}), "--set scope=layer: scope 'layer' is not part of this build yet");
}

TEST(SuiteRefusal, CatchesWrongTypesAndValues) {
  const auto refused = [](const std::string& line, const std::string& what) { EXPECT_TRUE(says(refusal(line), "dir/t.toml:4: ", what)) << line; };
  refused("batch = \"8\"", "batch: expected an integer, not '8'");
  refused("batch = 8.0", "batch: expected an integer, not 8");
  refused("batch = true", "batch: expected an integer, not true");
  refused("batch = [[1]]", "batch: expected an integer, not an array");
  refused("batch = 2020-01-01", "batch: expected an integer, not a date");
  refused("batch = []", "batch: expected at least one value");
  refused("batch = 0", "batch: 0 is outside 1 .. 4294967295");
  refused("hidden = -1", "hidden: -1 is outside");
  refused("seq_len = 4294967296", "seq_len: 4294967296 is outside");
  refused("seq_len = 99999999999999999999", "TOML:");
  refused("batch = [1, 2, 1]", "batch: duplicate value 1");
  refused("regime = [\"paper\", \"paper\"]", "regime: duplicate value 'paper'");
  refused("iteration_limit = [\"adaptive\", \"adaptive\"]", "duplicate value 'adaptive'");
  refused("weight_std = [0.5, 0.5]", "duplicate value 0.5");
  refused("seq_len = { pow2 = [9, 2] }", "seq_len: pow2 = [9, 2] is reversed; expected first <= last");
  refused("seq_len = { pow2 = [2, 63] }", "pow2 = [2, 63] is outside 0 .. 62");
  refused("seq_len = { pow2 = [-1, 3] }", "pow2 = [-1, 3] is outside 0 .. 62");
  refused("seq_len = { pow2 = [2] }", "expected { pow2 = [first, last] }");
  refused("seq_len = { pow2 = [2, 3, 4] }", "expected { pow2 = [first, last] }");
  refused("seq_len = { pow2 = [2.0, 3] }", "expected { pow2 = [first, last] }");
  refused("seq_len = { pow = [2, 3] }", "unknown key 'pow' in seq_len; did you mean 'pow2'?");
  refused("seed = -1", "seed: -1 is outside");
  refused("weight_std = -0.5", "weight_std: expected a finite number >= 0, not -0.5");
  refused("weight_std = nan", "weight_std: expected a finite number >= 0");
  refused("weight_std = inf", "weight_std: expected a finite number >= 0");
  refused("weight_std = \"wide\"", "weight_std: expected a number, not 'wide'");
  refused("iteration_limit = 0", "iteration_limit: 0 is outside 1 .. 1000000");
  refused("iteration_limit = 2.5", "iteration_limit: expected an integer, not 2.5");
  refused("regime = 3", "regime: expected a string, not 3");
  refused("policy = 3", "policy: expected a table");
  refused("policy = { threads = 0 }", "policy.threads: 0 is outside");
  refused("limits = 3", "limits: expected a table");
  refused("limits = { case_s = 0 }", "limits.case_s: expected a finite number > 0, not 0");
  refused("limits = { bytes = 1e30 }", "limits.bytes: 1e+30 overflows 64 bits");
  refused("limits = { bytes = \"8 GB\" }", "limits.bytes: expected a number, not '8 GB'");
  refused("protocol = [\"ours\", \"paper\"]", "protocol: expected one value, not 2");
  EXPECT_EQ(axes("weight_std = 0").weight_std.front(), 0.0);
  EXPECT_EQ(axes("seq_len = 4294967295").seq_len.front(), 4294967295);
}

// 2^54 steps x 64 words x 8 bytes is the first that a 64-bit count of bytes cannot hold.
TEST(SuiteRefusal, CatchesSizesWhoseBytesOverflow) {
  EXPECT_TRUE(says(refusal("batch = 4194304\nhidden = 65536\nseq_len = 65536"), "", "batch x seq_len x hidden overflows 64 bits"));
  EXPECT_EQ(refusal("batch = 4194303\nhidden = 65536\nseq_len = 65536"), "accepted");
  EXPECT_EQ(refusal("batch = 2\n[[point]]\nbatch = 4194304\nhidden = 65536\nseq_len = 65536"), "dir/t.toml:5: batch x seq_len x hidden overflows 64 bits");
}

TEST(SuiteRefusal, CatchesWhatIsNoSuite) {
  EXPECT_EQ(refusal_of_file(""), "dir/t.toml: the file is empty; expected a suite with title, cells and solvers");
  EXPECT_EQ(refusal_of_file(" \n\t\r\n"), "dir/t.toml: the file is empty; expected a suite with title, cells and solvers");
  EXPECT_EQ(refusal_of_file(std::string("title\0", 6)), "dir/t.toml: expected a suite in TOML, not a binary file");
  EXPECT_TRUE(says(refusal_of_file("title = \"t\"\ncells = [\n"), "dir/t.toml:"));
  EXPECT_TRUE(says(refusal("batch 3"), "dir/t.toml:4: TOML: "));
  EXPECT_TRUE(says(refusal("title = \"again\""), "dir/t.toml:4: TOML: "));
  EXPECT_EQ(refusal_of_file("cells = \"gru_diag\"\nsolvers = \"all\""), "dir/t.toml: missing title");
  EXPECT_EQ(refusal_of_file("title = \"\"\ncells = \"gru_diag\"\nsolvers = \"all\""), "dir/t.toml: missing title");
  EXPECT_EQ(refusal_of_file("title = \"t\"\nsolvers = \"all\""), "dir/t.toml: missing cells");
  EXPECT_EQ(refusal_of_file("title = \"t\"\nop = \"reduction\"\nsolvers = \"all\""), "dir/t.toml: missing jacobian, which op 'reduction' needs");
  EXPECT_EQ(refusal_of_file("title = \"t\"\nop = [\"reduction\", \"recurrence\"]\njacobian = \"diag\"\nsolvers = \"all\""), "dir/t.toml: missing cells");
  EXPECT_EQ(refusal_of_file("title = \"t\"\nop = \"reduction\"\ncells = \"gru_diag\"\njacobian = \"diag\"\nsolvers = \"all\""),
            "dir/t.toml:3: cells: no op of this suite takes it");
  EXPECT_EQ(refusal_of_file("title = \"t\"\ncells = \"gru_diag\"\njacobian = \"diag\"\nsolvers = \"all\""), "dir/t.toml:3: jacobian: no op of this suite takes it");
  EXPECT_EQ(refusal_of_file("title = \"t\"\ncells = \"gru_diag\"\nsolvers = \"all\"\n[[point]]\nop = \"reduction\""), "dir/t.toml:4: missing jacobian, which op 'reduction' needs");
  EXPECT_TRUE(says(refusal_of_file("title = \"t\"\nop = \"reduction\"\njacobian = \"3x3\"\nsolvers = \"all\""), "dir/t.toml:3: unknown jacobian '3x3'", ""));
  EXPECT_TRUE(says(refusal_of_file("title = \"t\"\ncells = \"diag\"\nsolvers = \"all\""), "dir/t.toml:2: unknown cell 'diag'", ""));
  EXPECT_EQ(refusal_of_file("title = \"t\"\ncells = \"gru_diag\""), "dir/t.toml: missing solvers");
  EXPECT_THROW(load_suite("no/such.toml"), BadInput);
  EXPECT_THROW(load_suite("/tmp"), BadInput);
}

TEST(SuiteOps, EachTakesItsOwnAxis) {
  const std::string text = "title = \"t\"\ncells = \"gru_diag\"\njacobian = [\"2x2\", \"diag\"]\nsolvers = \"all\"\n[[point]]\nop = \"reduction\"\nseq_len = 5";
  const Suite s = parse_suite("t.toml", text, {});
  ASSERT_EQ(s.grids.size(), 2u);
  EXPECT_EQ(names_for(s.grids[0].axes, find_op("recurrence")), (std::vector<std::string>{"gru_diag"}));
  EXPECT_EQ(names_for(s.grids[1].axes, find_op("reduction")), (std::vector<std::string>{"2x2", "diag"}));
  EXPECT_TRUE(s.grids[1].axes.all_solvers);
  EXPECT_FALSE(parse_suite("t.toml", text, {{"solvers", "auto"}}).grids[0].axes.all_solvers);
  EXPECT_EQ(parse_suite("t.toml", text, {{"jacobian", "diag"}}).grids[1].axes.jacobian, (std::vector<std::string>{"diag"}));
}

TEST(SuiteText, IsReadOnlyWhereARegimeNeedsIt) {
  const std::string here = __FILE__;
  EXPECT_EQ(suite("text_file = \"/no/such\"").text_bytes, nullptr);
  EXPECT_EQ(refusal("regime = \"text\"\ntext_file = \"/no/such\""), "dir/t.toml:5: text_file '/no/such' cannot be read");
  EXPECT_TRUE(says(refusal("regime = \"text\"\ntext_file = \"/dev/null\""), "", "cannot be read"));
  const Suite s = parse_suite(PRNN_SOURCE_DIR "/suites/t.toml", kHead + "text_file = \"../LICENSE\"\n[[point]]\nregime = \"text\"", {});
  EXPECT_EQ(s.text_file, PRNN_SOURCE_DIR "/suites/../LICENSE");
  ASSERT_NE(s.text_bytes, nullptr);
  EXPECT_GT(s.text_bytes->size(), 100u);
}

TEST(ShippedSuite, IsAcceptedAndNamesItsPurpose) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(PRNN_SOURCE_DIR "/suites")) {
    if (entry.path().extension() != ".toml") continue;
    const Suite s = load_suite(entry.path().string());
    EXPECT_EQ(s.name, entry.path().stem());
    EXPECT_NE(s.title, "") << s.path;
    names.insert(s.name);
  }
  for (const char* name : {"quick", "backward", "both", "auto", "fig1", "fig2_left", "fig2_right", "fig4", "fig5", "fig6", "fig7", "fig7_8", "weight_scale", "time_error", "peers"})
    EXPECT_TRUE(names.contains(name)) << name;
  // A1 to A13 of the adversarial cases, A9 with A10; the paper's three iterations in each.
  std::set<std::string> adversarial;
  for (const auto& entry : std::filesystem::directory_iterator(PRNN_SOURCE_DIR "/suites/adversarial")) {
    const Suite s = load_suite(entry.path().string());
    adversarial.insert(s.name.substr(0, s.name.find('_')));
    EXPECT_TRUE(std::any_of(s.grids.begin(), s.grids.end(), [](const Grid& g) {
      return std::count(g.axes.iteration_limit.begin(), g.axes.iteration_limit.end(), std::optional(3));
    })) << s.path;
  }
  EXPECT_EQ(adversarial, (std::set<std::string>{"a01", "a02", "a03", "a04", "a05", "a06", "a07", "a08", "a10", "a11", "a12", "a13", "combinations"}));
  const Axes quick = load_suite(PRNN_SOURCE_DIR "/suites/quick.toml").grids[0].axes;
  EXPECT_EQ(quick.cells, find_op("recurrence").cells());
  EXPECT_EQ(quick.solvers, solver_names());
  EXPECT_TRUE(is(quick.regime, {"paper", "corners", "wide", "expansive"}));
}

}  // namespace
}  // namespace prnn
