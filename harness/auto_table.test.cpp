// auto_table.test.cpp: which rows become the table of solver auto, which sizes nobody chose, when auto is too slow.
#include "harness/auto_table.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <functional>
#include <set>
#include <tuple>

#include "harness/sha256.hpp"
#include "kernels/primitives/measured.hpp"

namespace prnn {
namespace {

struct At {
  std::int64_t batch = 8, hidden = 64, seq_len = 16;
};

/// A row as `prnn run` writes it; policy: what the suite sets, "overlap=4,threads=64".
CaseRecord row(const std::string& solver, double median_us, At at = {}, const std::string& policy = "") {
  CaseRecord r;
  r.problem.cell = "gru_diag";
  r.problem.batch = at.batch, r.problem.hidden = at.hidden, r.problem.seq_len = at.seq_len;
  r.device = "cuda", r.solver = solver, r.cache = "rotating";
  r.group_id = "recurrence/B" + std::to_string(at.batch) + "/L" + std::to_string(at.seq_len);
  r.case_id = r.group_id + "/" + solver + (policy.empty() ? "" : "/" + policy);
  r.policy = {{"overlap", 4}, {"segments", 9}};
  r.status = Status::ok;
  r.time_s.emplace();
  r.time_s->median = median_us * 1e-6;
  return r;
}

NamedRecords named(const std::string& path, std::vector<CaseRecord> rows) {
  Records records;
  records.head.commit = "abc";
  records.head.time_utc = "2026";
  records.head.cpu = "a CPU", records.head.cores = 2;
  records.head.gpu = GpuInfo{.name = "a GPU", .driver = "", .sm = 90};
  records.rows = std::move(rows);
  return {path, std::move(records)};
}

/// What a program sees that includes the text.
std::string literal(const std::string& text) {
  const std::string head = "R\"prnn(", tail = ")prnn\"\n";
  EXPECT_EQ(text.substr(0, head.size()), head);
  EXPECT_EQ(text.substr(text.size() - tail.size()), tail);
  return text.substr(head.size(), text.size() - head.size() - tail.size());
}

/// Measurements of a fit as "B D L candidate time", behind the pass where it is not forward.
std::multiset<std::string> fit(const std::vector<NamedRecords>& records) {
  std::multiset<std::string> lines;
  for (const MeasuredTable::Line& line : parse_measured(literal(fitted_table(records, {.command = "fit"}))).lines) {
    std::string text = (line.pass == "forward" ? "" : line.pass + " ") + std::to_string(line.batch) + " " + std::to_string(line.hidden) + " " + std::to_string(line.seq_len) + " " +
                       line.candidate.solver;
    for (const auto& [key, value] : line.candidate.overrides) text += " " + key + "=" + std::to_string(value);
    lines.insert(text + " " + std::to_string(std::lround(line.time_us)));
  }
  return lines;
}
using Lines = std::multiset<std::string>;

TEST(SuiteOverrides, AreThoseOfTheCaseIdThatTheSolverHas) {
  EXPECT_EQ(suite_overrides(row("shooting", 1)), (Policy{})) << "the recorded policy is the shipped one";
  EXPECT_EQ(suite_overrides(row("shooting", 1, {}, "overlap=4")), (Policy{{"overlap", 4}}));
  EXPECT_EQ(suite_overrides(row("shooting", 1, {}, "overlap=4,segments=12")), (Policy{{"overlap", 4}, {"segments", 12}})) << "as it was asked for, not as it was used";
  EXPECT_EQ(suite_overrides(row("shooting", 1, {}, "steps_a_thread=1,threads=64")), (Policy{})) << "another solver's";
}

TEST(FittedTable, HoldsEachMeasurementOnce) {
  EXPECT_EQ(fit({named("a", {row("seq_fused", 20), row("shooting", 30), row("shooting", 25, {}, "overlap=4"), row("seq_fused", 22, {}, "threads=64")})}),
            (Lines{"8 64 16 seq_fused 21", "8 64 16 shooting 30", "8 64 16 shooting overlap=4 25"}))
      << "seq_fused with another solver's key is seq_fused: the median of 20 and 22";
  EXPECT_EQ(fit({named("a", {row("seq_fused", 20), row("seq_fused", 90), row("seq_fused", 30)})}), (Lines{"8 64 16 seq_fused 30"}));
  EXPECT_EQ(fit({named("a", {row("seq_fused", 20)}), named("b", {row("seq_fused", 90), row("seq_fused", 30, {1, 2, 3})})}), (Lines{"8 64 16 seq_fused 90", "1 2 3 seq_fused 30"}))
      << "the later record holds";
}

TEST(FittedTable, LeavesOutWhatIsNoMeasurementOfACandidate) {
  const Lines only = {"8 64 16 seq_fused 20"};
  for (const auto& change : std::vector<std::function<void(CaseRecord&)>>{
           [](CaseRecord& r) { r.status = Status::wrong; }, [](CaseRecord& r) { r.time_s.reset(); }, [](CaseRecord& r) { r.problem.regime = "corners"; },
           [](CaseRecord& r) { r.problem.weight_std = 0.5; }, [](CaseRecord& r) { r.problem.iteration_limit = 3; }, [](CaseRecord& r) { r.cache = "hot"; },
           [](CaseRecord& r) { r.problem.pass = "both"; }, [](CaseRecord& r) { r.problem.pass = "backward", r.problem.grad = "output"; },
           [](CaseRecord& r) { r.problem.pass = "backward", r.problem.grad = "squares"; }, [](CaseRecord& r) { r.problem.scope = "layer"; },
           [](CaseRecord& r) { r.device = "emulated"; }, [](CaseRecord& r) { r.solver = "auto"; }, [](CaseRecord& r) { r.solver = "seq_stepwise"; },
           [](CaseRecord& r) { r.solver = "seq_graph"; }, [](CaseRecord& r) { r.solver = "newton_unfused"; }, [](CaseRecord& r) { r.solver = "scan_stepwise"; },
           [](CaseRecord& r) { r.solver = "cub"; }}) {
    CaseRecord other = row("shooting", 20);
    change(other);
    EXPECT_EQ(fit({named("a", {row("seq_fused", 20), other})}), only);
    EXPECT_THROW(fit({named("a", {other})}), BadInput);
  }
  CaseRecord random = row("shooting", 20);
  random.problem.h0 = "random", random.problem.seed = 7;
  EXPECT_EQ(fit({named("a", {row("seq_fused", 20), random})}).size(), 2u) << "any h0 and seed";
}

TEST(FittedTable, HoldsScansByTheirJacobian) {
  CaseRecord scan = row("scan_chained", 20);
  scan.problem.op = "reduction", scan.problem.cell = "2x2";
  const MeasuredTable table = parse_measured(literal(fitted_table({named("a", {row("seq_fused", 30), scan})}, {.command = "fit"})));
  ASSERT_EQ(table.lines.size(), 2u);
  EXPECT_EQ(table.lines[1].cell, "2x2");
  EXPECT_EQ(table.lines[1].candidate.solver, "scan_chained");
}

TEST(FittedTable, DropsCandidatesThatAreNowhereNear) {
  const At other{1, 2, 3};
  const double best = 20, near = best * kKeptWithin * 0.999, far = best * kKeptWithin * 1.001;
  EXPECT_EQ(fit({named("a", {row("seq_fused", best), row("shooting", far), row("seq_fused", best, other), row("shooting", far, other)})}),
            (Lines{"8 64 16 seq_fused 20", "1 2 3 seq_fused 20"}));
  EXPECT_EQ(fit({named("a", {row("seq_fused", best), row("shooting", far), row("seq_fused", best, other), row("shooting", near, other)})}).size(), 4u) << "near at one point";
  CaseRecord approximate = row("shooting", near, other);
  approximate.problem.gates = "approx";
  EXPECT_EQ(fit({named("a", {row("seq_fused", best), row("shooting", far), approximate})}), (Lines{"8 64 16 seq_fused 20", "1 2 3 shooting 30"})) << "gates apart";
}

TEST(FittedTable, HoldsEachPassAlone) {
  const auto back = [](const std::string& solver, double median_us) {
    CaseRecord r = row(solver, median_us);
    r.problem.pass = "backward";
    return r;
  };
  const std::vector<NamedRecords> records = {
      named("a", {back("seq_fused", 900), back("reduction", 70), back("shooting", 60), back("seq_stepwise", 50), back("auto", 50), row("seq_fused", 20), row("shooting", 25)}),
      named("b", {back("shooting", 65)})};
  EXPECT_EQ(fit(records), (Lines{"8 64 16 seq_fused 20", "8 64 16 shooting 25", "backward 8 64 16 reduction 70", "backward 8 64 16 shooting 65"}))
      << "near the best of its own pass, and the later record's";
  const std::string text = fitted_table(records, {.command = "fit"}), backward = "\nsm_90 backward gru_diag f32 exact 8 64 16 reduction 70\n";
  EXPECT_NE(text.find(backward), std::string::npos) << text;
  EXPECT_LT(text.rfind("\nsm_90 forward"), text.find(backward)) << "forward comes first, whatever the records' order";
}

TEST(FittedTable, SaysWhatItWasMadeOf) {
  CaseRecord host = row("seq_fused", 1500, {2, 3, 5});
  host.device = "cpu", host.problem.storage = Storage::bf16;
  NamedRecords second = named("dir/b.jsonl", {host});
  second.second.head.gpu.reset();
  second.second.head.dirty = true;
  const std::string text = literal(fitted_table({named("a.jsonl", {row("shooting", 0.12346)}), second}, {.command = "prnn_fit_auto a.jsonl dir/b.jsonl", .multiprocessors = 114}));
  for (const char* part : {"# prnn_fit_auto a.jsonl dir/b.jsonl\n", "# a.jsonl: commit abc, 2026, a GPU, 1 rows\n", "# dir/b.jsonl: commit abc (dirty), 2026, a CPU, 1 rows\n",
                           "\narchitecture sm_90 114 a GPU\n", "\narchitecture cpu 2 a CPU\n", "\nsm_90 forward gru_diag f32 exact 8 64 16 shooting 0.1235\n",
                           "\ncpu forward gru_diag bf16 exact 2 3 5 seq_fused 1500\n"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
}

TEST(UnseenSuite, IsTwentySizesThatTheTableDetermines) {
  const std::string text = unseen_suite("a table");
  EXPECT_EQ(text, unseen_suite("a table"));
  EXPECT_NE(text, unseen_suite("a tabl"));
  EXPECT_NE(text.find(sha256("a table")), std::string::npos);
  std::set<std::array<std::int64_t, 3>> sizes;
  std::int64_t odd = 0, smallest = 1 << 20, largest = 0;
  for (const std::string table : {"", "a", "b", "c", "d", "e", "f", "g"}) {
    const Suite suite = parse_suite("unseen.toml", unseen_suite(table));
    EXPECT_EQ(suite.grids.size(), std::size_t(kUnseenPoints));
    for (const Grid& grid : suite.grids) {
      const Axes& a = grid.axes;
      EXPECT_EQ(a.cells, (std::vector<std::string>{"gru_diag", "lstm_cifg_diag"}));
      EXPECT_EQ(a.solvers, (std::vector<std::string>{"seq_fused", "newton_fused", "shooting", "auto"}));
      EXPECT_EQ(a.passes, (std::vector<std::string>{"forward"}));
      EXPECT_EQ(a.storage, (std::vector{Storage::f32, Storage::bf16}));
      EXPECT_EQ(a.cache, (std::vector<std::string>{"rotating"}));
      EXPECT_EQ(a.regime, (std::vector<std::string>{"paper"}));
      ASSERT_EQ(a.batch.size() * a.hidden.size() * a.seq_len.size(), 1u);
      const std::int64_t b = a.batch[0], d = a.hidden[0], l = a.seq_len[0], bytes = 4 * b * d * l;
      EXPECT_TRUE(1 <= b && b <= 16 && 16 <= d && d <= 8192 && 8 <= l && l <= 65536) << b << " " << d << " " << l;
      EXPECT_TRUE(16 << 10 <= bytes && bytes <= std::int64_t(4) << 30) << b << " " << d << " " << l;
      sizes.insert({b, d, l});
      odd += d % 4 != 0;
      smallest = std::min(smallest, d), largest = std::max(largest, d);
    }
  }
  EXPECT_EQ(sizes.size(), 8u * kUnseenPoints) << "no draw twice";
  EXPECT_GT(odd, 60) << "of 160 hidden sizes 3 in 4 are no multiple of 4: 120, with a standard deviation of 5.5";
  EXPECT_LT(smallest, 64) << "log-uniform: 1 in 4.5 is below 64";
  EXPECT_GT(largest, 2048) << "and 1 in 4.5 above 2048";
}

TEST(UnseenSuite, OfPassBackwardHasItsSolversAtTheSameSizes) {
  const Suite forward = parse_suite("unseen.toml", unseen_suite("a table")), backward = parse_suite("unseen.toml", unseen_suite("a table", "backward"));
  EXPECT_NE(backward.title, forward.title);
  ASSERT_EQ(backward.grids.size(), forward.grids.size());
  for (std::size_t i = 0; i < backward.grids.size(); ++i) {
    const Axes &a = backward.grids[i].axes, &b = forward.grids[i].axes;
    EXPECT_EQ(a.passes, (std::vector<std::string>{"backward"}));
    EXPECT_EQ(a.grad, (std::vector<std::string>{"all"}));
    EXPECT_EQ(a.solvers, (std::vector<std::string>{"seq_fused", "reduction", "shooting", "auto"}));
    EXPECT_EQ(a.storage, b.storage);
    EXPECT_EQ(std::tie(a.batch, a.hidden, a.seq_len), std::tie(b.batch, b.hidden, b.seq_len));
  }
}

TEST(CheckAuto, HoldsAutoAgainstTheBestOfItsGroup) {
  CaseRecord chosen = row("auto", 21);
  chosen.policy_solver = "shooting";
  const std::vector<NamedRecords> records = {named("a", {row("seq_fused", 40), chosen, row("shooting", 20)})};
  EXPECT_TRUE(check_auto(records, 1.051).passes);
  EXPECT_FALSE(check_auto(records, 1.049).passes);
  const std::string text = check_auto(records, 1.10).text;
  EXPECT_NE(text.find("1.050  within  recurrence/B8/L16 exact  auto shooting 21 us  best shooting 20 us\n"), std::string::npos) << text;
  EXPECT_NE(text.find("0 of 1 beyond 1.1 x the best; the worst 1.050\n"), std::string::npos) << text;
}

TEST(CheckAuto, ComparesEachGroupAndGatesAlone) {
  CaseRecord approximate = row("shooting", 1), chosen = row("auto", 1);
  approximate.problem.gates = chosen.problem.gates = "approx";
  CaseRecord fixed = row("newton_fused", 0.1), not_ok = row("newton_fused", 0.1);
  fixed.problem.iteration_limit = 1;
  not_ok.status = Status::wrong;
  const At other{1, 2, 3};
  std::vector<CaseRecord> rows = {row("auto", 20), row("seq_fused", 20), chosen, approximate, fixed, not_ok, row("auto", 1, other), row("shooting", 1, other)};
  EXPECT_TRUE(check_auto({named("a", rows)}, 1.01).passes);
  EXPECT_NE(check_auto({named("a", rows)}, 1.01).text.find("0 of 3 beyond"), std::string::npos);
  rows.push_back(row("newton_fused", 0.9, other));
  EXPECT_FALSE(check_auto({named("a", rows)}, 1.01).passes);
}

TEST(CheckAuto, RefusesARecordWithoutAutoAndFailsOneWhereItIsNotOk) {
  EXPECT_THROW(check_auto({named("a", {row("seq_fused", 1)})}, 2), BadInput);
  EXPECT_THROW(check_auto({named("a", {row("seq_fused", 1), row("auto", 1), row("seq_fused", 1, {1, 2, 3})})}, 2), BadInput);
  EXPECT_THROW(check_auto({named("a", {})}, 2), BadInput);
  CaseRecord skipped = row("auto", 1);
  skipped.status = Status::skipped, skipped.time_s.reset();
  EXPECT_FALSE(check_auto({named("a", {row("seq_fused", 1), skipped})}, 2).passes);
  EXPECT_THROW(check_auto({named("a", {skipped})}, 2), BadInput) << "nothing to hold it against";
}

}  // namespace
}  // namespace prnn
