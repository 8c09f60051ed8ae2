// gate_command.test.cpp: gate, compare and baseline through the built program: exit codes, outputs, what is refused, and fresh runs of what is inconclusive.
#include <gtest/gtest.h>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "harness/baseline.hpp"
#include "harness/build_info.hpp"
#include "harness/gate_output.hpp"
#include "harness/program_test.hpp"
#include "harness/record.hpp"
#include "harness/sha256.hpp"
#include "harness/shell_words.hpp"

namespace prnn {
namespace {

namespace fs = std::filesystem;

/// Records of small.toml that nothing has run: three cases of 1 s, 2 s and 3 s.
class Gate : public Program {
 protected:
  using Change = std::function<void(Provenance&, std::vector<CaseRecord>&)>;

  void SetUp() override {
    Program::SetUp();
    record("b.jsonl");
  }
  void TearDown() override {
    for (const std::string& name : saved_) fs::remove_all(fs::path(PRNN_EXE).parent_path().parent_path() / "baselines" / name);
    Program::TearDown();
  }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  /// A record of another commit than the program's, so that nothing is run again.
  void record(const std::string& name, const Change& change = {}) {
    const Suite suite = load_suite(path("small.toml"));
    Provenance head = provenance_here(suite, "prnn run small.toml --set=hidden=3 --set batch=1 --device cpu", "cpu", {});
    head.suite_path = "small.toml";
    head.commit = "c0ffee", head.dirty = build_info().dirty;
    head.copy_bytes_per_s = 1e10;
    std::vector<CaseRecord> rows;
    for (const Group& group : make_plan(suite, {})) {
      for (const Case& c : group.cases) {
        CaseRecord& row = rows.emplace_back(record_of(c, suite, {}));
        row.status = Status::ok, row.reason = "";
        row.samples_s = std::vector<double>(5, static_cast<double>(rows.size()));
        row.error.emplace().test_ratio = 1;
        row.iterations = 5;
      }
    }
    if (change) change(head, rows);
    fs::remove(path(name));
    RecordWriter writer = RecordWriter::create(path(name));
    writer.write(head);
    writer.write(rows);
  }
  static void slow_down(CaseRecord& row, double factor) {
    for (double& sample : row.samples_s) sample *= factor;
  }
  /// The exit code of a gate on a changed record.
  int code_of(const std::function<void(std::vector<CaseRecord>&)>& change, const std::string& flags = "") {
    record("f.jsonl", [&](Provenance&, std::vector<CaseRecord>& rows) { change(rows); });
    ended_ = prnn("gate f.jsonl --baseline b.jsonl " + flags);
    return ended_.code;
  }
  nlohmann::json answer(const std::string& words, int code) {
    ended_ = prnn(words + " --json");
    EXPECT_EQ(ended_.code, code) << words << ": " << ended_.err;
    return nlohmann::json::parse(ended_.out);
  }
  /// A name for a baseline that no other test has.
  std::string fresh_name(const std::string& name) { return saved_.emplace_back("test-" + std::to_string(getpid()) + "-" + name); }

  Ended ended_;
  std::vector<std::string> saved_;
};

// What each does to a row of its own.
void make_slow(std::vector<CaseRecord>& rows) {
  for (double& sample : rows[0].samples_s) sample *= 2;
}
void make_inconclusive(std::vector<CaseRecord>& rows) {  // nothing is calibrated: 11.4 % +- 5.7 % is enforced
  for (double& sample : rows[1].samples_s) sample *= 1.09;
}
void make_more_iterations(std::vector<CaseRecord>& rows) { rows[1].iterations = 9; }
void make_missing(std::vector<CaseRecord>& rows) { rows.pop_back(); }
void make_wrong(std::vector<CaseRecord>& rows) { rows[0].error->test_ratio = 9; }

TEST_F(Gate, HasTheExitCodesOfTheContract) {
  EXPECT_EQ(code_of([](auto&) {}), 0) << ended_.err;
  EXPECT_NE(ended_.out.find("f.jsonl against b.jsonl: 3 cases: 3 unenforceable\n"), std::string::npos) << ended_.out;
  EXPECT_NE(ended_.out.find("note: 3 margins are unenforceable, tighter than the smallest effect detectable, which counts instead: +11.4 % at most, recurrence/"),
            std::string::npos);
  EXPECT_TRUE(ended_.out.ends_with("exit code 0\n"));
  EXPECT_EQ(code_of(make_slow), 1) << ended_.err;
  EXPECT_EQ(code_of(make_wrong), 2) << ended_.err;
  EXPECT_EQ(code_of(make_more_iterations), 3) << ended_.err;
  EXPECT_EQ(code_of(make_inconclusive), 4) << ended_.err;
  EXPECT_EQ(code_of(make_missing), 5) << ended_.err;
}

TEST_F(Gate, GivesTheFirstExitCodeThatApplies) {
  const std::vector<std::pair<int, void (*)(std::vector<CaseRecord>&)>> order = {
      {2, make_wrong}, {5, make_missing}, {3, make_more_iterations}, {1, make_slow}, {4, make_inconclusive}};
  for (std::size_t i = 0; i + 1 < order.size(); ++i) {
    EXPECT_EQ(code_of([&](std::vector<CaseRecord>& rows) { order[i].second(rows), order[i + 1].second(rows); }), order[i].first);
  }
}

TEST_F(Gate, PrintsACommandThatRunsTheCaseAlone) {
  ASSERT_EQ(code_of(make_slow), 1);
  const std::size_t at = ended_.out.find("./prnn run small.toml --device cpu --set hidden=3 --set batch=1 --only '^");
  ASSERT_NE(at, std::string::npos) << ended_.out;
  const std::string words = ended_.out.substr(at + 7, ended_.out.find('\n', at) - at - 7);
  const auto plan = answer(words + " --dry", 0);
  EXPECT_EQ(plan["cases"], 1);
  const std::vector<CaseRecord> rows = read_records(path("f.jsonl")).rows;
  EXPECT_EQ(plan["plan"][0]["case_id"], rows[0].case_id);
  EXPECT_NE(ended_.out.find("\"cases\":1"), std::string::npos);
}

TEST_F(Gate, SaysHowToGoOnWhereItIsInconclusive) {
  EXPECT_EQ(code_of(make_inconclusive, "--replay"), 4);
  EXPECT_NE(ended_.out.find("note: nothing is run again: --replay judges the files alone\nnext: prnn gate f.jsonl --baseline b.jsonl\n"), std::string::npos) << ended_.out;
  EXPECT_EQ(code_of(make_inconclusive), 4);
  EXPECT_NE(ended_.out.find("note: nothing is run again: f.jsonl is of commit c0ffee, this program of "), std::string::npos) << ended_.out;
}

TEST_F(Gate, AnswersInJsonWithWhatItRestsOn) {
  record("f.jsonl", [](Provenance&, std::vector<CaseRecord>& rows) { make_slow(rows); });
  put("p.toml", "[time]\nmargin = 0.5\n");
  const auto verdict = answer("gate f.jsonl --baseline b.jsonl --policy p.toml", 1);
  EXPECT_EQ(verdict["exit_code"], 1);
  const auto& first = verdict["verdicts"][0]["cases"][0];
  EXPECT_EQ(first["finding"], "slower");
  EXPECT_DOUBLE_EQ(first["compared"][0]["ratio"].get<double>(), 2);
  EXPECT_EQ(first["compared"][0]["margin"], 0.5);
  EXPECT_EQ(first["compared"][0]["enforced"], 0.5);
  EXPECT_EQ(first["time_s"], 2.0);
  EXPECT_EQ(first["baseline_s"], 1.0);
  EXPECT_EQ(verdict["verdicts"][0]["counts"]["pass"], 2);
  std::set<std::string> roles;
  for (const auto& input : verdict["inputs"]) {
    roles.insert(input["role"]);
    EXPECT_EQ(input["sha256"], sha256(get(input["path"])));
  }
  EXPECT_EQ(roles, (std::set<std::string>{"candidate", "baseline", "policy"}));
  EXPECT_EQ(verdict.dump(), answer("gate f.jsonl --baseline b.jsonl --policy p.toml", 1).dump());
}

TEST_F(Gate, WritesMarkdownAndWellFormedXml) {
  record("f.jsonl", [](Provenance&, std::vector<CaseRecord>& rows) {
    make_slow(rows);
    rows[1].status = Status::error, rows[1].reason = "a < b && \"c\" | d \x01";
    make_missing(rows);
  });
  EXPECT_EQ(prnn("gate f.jsonl --baseline b.jsonl --junit j.xml --markdown m.md").code, 5);
  put("check.py",
      "import xml.etree.ElementTree as t\n"
      "s = t.parse('j.xml').getroot()[0]\n"
      "cases = s.findall('testcase')\n"
      "kinds = [(c[0].tag, c[0].get('type')) if len(c) else None for c in cases]\n"
      "assert kinds == [('failure', 'slower'), ('error', 'broken'), ('error', 'broken')], kinds\n"
      "assert cases[1][0].get('message') == 'error where ok is expected: a < b && \"c\" | d  ', cases[1][0].get('message')\n"
      "assert cases[0][0].text.startswith('./prnn run small.toml --device cpu'), cases[0][0].text\n"
      "assert cases[0].get('name').startswith('recurrence/') and float(cases[0].get('time')) == 2\n"
      "assert [s.get(k) for k in ('tests', 'failures', 'errors', 'skipped')] == ['3', '1', '2', '0'], s.attrib\n"
      "assert len(s.find('properties')) == 2\n");
  EXPECT_EQ(std::system(("cd '" + folder_.string() + "' && /usr/bin/python3 check.py").c_str()), 0);
  const std::string markdown = get("m.md");
  EXPECT_NE(markdown.find("### prnn gate: broken\n"), std::string::npos);
  EXPECT_NE(markdown.find("| slower | `recurrence/"), std::string::npos);
  EXPECT_NE(markdown.find("| 2 s | 1 s | +100.0 % (+89.2 % .. +111.4 %) | time +100.0 %"), std::string::npos) << markdown;
  EXPECT_NE(markdown.find("a < b && \"c\" \\| d"), std::string::npos);
  EXPECT_NE(markdown.find(sha256(get("b.jsonl"))), std::string::npos);
  EXPECT_FALSE(fs::exists(path("j.xml.part")));
  refused("gate f.jsonl --baseline b.jsonl --junit none/j.xml", "--junit none/j.xml: cannot be written");
  refused("gate f.jsonl --baseline b.jsonl --markdown /proc/m.md", "--markdown /proc/m.md: cannot be written");

  EXPECT_EQ(code_of(make_inconclusive, "--junit j.xml"), 4);
  EXPECT_NE(get("j.xml").find("failures=\"0\" errors=\"0\" skipped=\"1\""), std::string::npos) << get("j.xml");
  EXPECT_NE(get("j.xml").find("<skipped message=\"inconclusive: time +9.0 %"), std::string::npos) << get("j.xml");
}

TEST_F(Gate, RefusesWhatIsNoWholeRecordOfTheSuite) {
  record("f.jsonl");
  const std::string whole = get("f.jsonl");
  const std::string first = whole.substr(0, whole.find('\n') + 1), second = whole.substr(first.size(), whole.find('\n', first.size()) + 1 - first.size());
  put("bad.jsonl", whole.substr(0, whole.size() - 10));
  refused("gate bad.jsonl --baseline b.jsonl", "bad.jsonl:4: cut short; expected a whole record");
  refused("gate f.jsonl --baseline bad.jsonl", "bad.jsonl:4: cut short");
  refused("compare bad.jsonl f.jsonl", "bad.jsonl:4: cut short");
  put("bad.jsonl", whole + second);
  refused("gate bad.jsonl --baseline b.jsonl", "bad.jsonl:5: recurrence/", " is there twice\n");
  put("bad.jsonl", first);
  refused("gate bad.jsonl --baseline b.jsonl", "bad.jsonl: has no case");
  put("bad.jsonl", "{}\n");
  refused("gate bad.jsonl --baseline b.jsonl", "bad.jsonl:1: expected a record \"provenance\"");
  refused("gate small.toml --baseline b.jsonl", "small.toml:1: not JSON");
  refused("gate none.jsonl --baseline b.jsonl", "none.jsonl: no such file");
  refused("gate . --baseline b.jsonl", ".: no such file");
  std::string null_sample = second;
  null_sample.replace(null_sample.find("\"samples_s\":[1.0"), 16, "\"samples_s\":[0.0");
  put("bad.jsonl", first + null_sample);
  refused("gate bad.jsonl --baseline b.jsonl", "bad.jsonl:2: samples_s: expected seconds above 0");
  record("foreign.jsonl", [](Provenance&, std::vector<CaseRecord>& rows) {
    for (CaseRecord& row : rows) row.case_id += "x";
  });
  refused("gate f.jsonl --baseline foreign.jsonl", "f.jsonl: has no case in common with foreign.jsonl");
  record("there.jsonl", [](Provenance& head, std::vector<CaseRecord>&) { head.fingerprint = "there"; });
  refused("gate f.jsonl --baseline there.jsonl", "f.jsonl is of another machine or build than there.jsonl (fingerprints ");
  record("f.again1.jsonl", [](Provenance& head, std::vector<CaseRecord>&) { head.commit = "beef"; });
  refused("gate f.jsonl --baseline b.jsonl", "f.again1.jsonl: of another commit (beef) than f.jsonl; expected c0ffee");
}

TEST_F(Gate, RefusesBadUsage) {
  refused("gate b.jsonl", "prnn gate: --baseline is required");
  refused("gate b.jsonl --baseline none", "baseline 'none': no such record, folder of records or saved baseline");
  refused("gate b.jsonl --baseline b.jsonl --polcy p", "prnn gate: unknown flag '--polcy'; did you mean '--policy'?");
  refused("gate b.jsonl --baseline b.jsonl --policy none.toml", "none.toml: no such file; expected a policy such as harness/gate.toml");
  put("p.toml", "[time]\nmargni = 3\n");
  refused("gate b.jsonl --baseline b.jsonl --policy p.toml", "p.toml:2: unknown key 'margni' in time; did you mean 'margin'?");
  refused("gate b.jsonl --baseline b.jsonl --calibration none", "baseline 'none': no such record");
  refused("compare b.jsonl none", "baseline 'none': no such record");
  refused("compare b.jsonl", "prnn compare: b is required");
  refused("baseline", "prnn baseline: action is required");
  refused("baseline lst", "prnn baseline: unknown action 'lst'; did you mean 'list'?");
  refused("baseline list x", "prnn baseline list x: expected nothing after list");
  refused("baseline show", "prnn baseline show: expected one NAME");
  refused("baseline save x", "baseline save x: expected the record to save");
  refused("baseline save ../x b.jsonl", "baseline save ../x: expected a name of letters");
  refused("baseline save .x b.jsonl", "baseline save .x: expected a name of letters");
}

TEST_F(Gate, JudgesEveryBaselineByItself) {
  record("f.jsonl", [](Provenance&, std::vector<CaseRecord>& rows) { make_slow(rows); });
  record("b2.jsonl", [](Provenance&, std::vector<CaseRecord>& rows) { make_slow(rows); });
  EXPECT_EQ(answer("gate f.jsonl --baseline b2.jsonl", 0)["verdicts"].size(), 1u);
  const auto both = answer("gate f.jsonl --baseline b2.jsonl --baseline b.jsonl", 1);
  EXPECT_EQ(both["verdicts"][0]["finding"], "unenforceable");
  EXPECT_EQ(both["verdicts"][1]["finding"], "slower");
}

TEST_F(Gate, NotesABaselineThatIsNotThereWhereItIsLenient) {
  record("f.jsonl", [](Provenance&, std::vector<CaseRecord>& rows) { rows.push_back(rows[0]), rows.back().case_id += "/new"; });
  EXPECT_EQ(prnn("gate f.jsonl --baseline b.jsonl").code, 5);
  EXPECT_EQ(prnn("gate f.jsonl --baseline b.jsonl --lenient").code, 0);
  const auto alone = answer("gate f.jsonl --baseline none --lenient", 0);
  EXPECT_EQ(alone["notes"][0], "baseline 'none' is not there");
  record("f.jsonl", [](Provenance&, std::vector<CaseRecord>& rows) { rows[0].status = Status::wrong; });
  EXPECT_EQ(prnn("gate f.jsonl --baseline none --lenient").code, 2);
}

TEST_F(Gate, ComparesTwoRecords) {
  record("f.jsonl", [](Provenance& head, std::vector<CaseRecord>& rows) {
    head.fingerprint = "there";
    make_slow(rows);
    slow_down(rows[2], 3);
  });
  const auto table = answer("compare b.jsonl f.jsonl", 0);
  EXPECT_EQ(table["same_machine"], false);
  ASSERT_EQ(table["cases"].size(), 3u);
  EXPECT_DOUBLE_EQ(table["cases"][0]["ratio"].get<double>(), 2);
  EXPECT_EQ(table["cases"][0]["a_s"], 1.0);
  EXPECT_EQ(table["cases"][0]["b_s"], 2.0);
  EXPECT_LT(table["cases"][0]["ci95_low"], 2);
  EXPECT_GT(table["cases"][0]["ci95_high"], 2);
  const Ended text = prnn("compare b.jsonl f.jsonl");
  EXPECT_EQ(text.code, 0);
  EXPECT_NE(text.out.find("       1 s         2 s   2.0000  1.89"), std::string::npos) << text.out;
  EXPECT_LT(text.out.find("3.0000"), text.out.find("2.0000"));  // the worst first
  EXPECT_NE(text.out.find("note: of two machines or builds"), std::string::npos);
}

TEST_F(Gate, KeepsNamedBaselines) {
  const std::string name = fresh_name("kept");
  for (const int run : {1, 2, 3}) {
    record("a" + std::to_string(run) + ".jsonl", [&](Provenance& head, std::vector<CaseRecord>& rows) {
      head.order_seed = static_cast<std::uint64_t>(run);
      for (CaseRecord& row : rows) slow_down(row, std::exp(0.001 * run));
    });
  }
  ASSERT_EQ(prnn("baseline save " + name + " a1.jsonl a2.jsonl").code, 0);
  EXPECT_TRUE(answer("baseline show " + name, 0)["cases"][0]["noise"].is_null());
  ASSERT_EQ(prnn("baseline save " + name + " a1.jsonl a2.jsonl a3.jsonl").code, 0);  // in its place
  const auto shown = answer("baseline show " + name, 0);
  EXPECT_EQ(shown["runs"], 3);
  EXPECT_NEAR(shown["cases"][0]["noise"].get<double>(), 0.001, 1e-9);
  EXPECT_NEAR(shown["cases"][0]["time_s"].get<double>(), std::exp(0.002), 1e-9);
  const double p = 1 - 0.01 / 3, student = (2 * p - 1) / std::sqrt(2 * p * (1 - p));  // of two degrees; 1 % of three cases
  EXPECT_NEAR(shown["cases"][0]["detectable"].get<double>(), std::expm1((4.302653 + student) * 0.001 * std::sqrt(1 + 1 / 3.0)), 1e-6);
  EXPECT_NE(prnn("baseline show " + name).out.find("    0.10 %      1.92 %  recurrence/"), std::string::npos) << get("stdout");
  fs::create_directory(baselines_directory() / saved_.emplace_back("." + name + ".1"));  // what a kill leaves
  bool listed = false;
  for (const auto& each : answer("baseline list", 0)) {
    if (each["name"] != name) continue;
    listed = true;
    EXPECT_EQ(each["runs"], 3);
    EXPECT_EQ(each["cases"], 3);
    EXPECT_EQ(each["commit"], "c0ffee");
  }
  EXPECT_TRUE(listed);
  EXPECT_NE(prnn("baseline list").out.find(name + "  small.toml on cpu, commit c0ffee"), std::string::npos);
  refused("gate b.jsonl --baseline " + name + "x", "baseline '" + name + "x': no such record, folder of records or saved baseline; did you mean '" + name + "'?");

  // The name brings its noise: 9 % is slower, of which one run alone cannot tell.
  record("f.jsonl", [](Provenance&, std::vector<CaseRecord>& rows) { slow_down(rows[0], 1.09); });
  EXPECT_EQ(prnn("gate f.jsonl --baseline a2.jsonl").code, 4);
  EXPECT_EQ(prnn("gate f.jsonl --baseline " + name).code, 1) << get("stdout");
  EXPECT_EQ(prnn("gate f.jsonl --baseline a2.jsonl --calibration " + name).code, 1) << get("stdout");
  fs::create_directory(path("folder"));
  for (const char* file : {"a1.jsonl", "a2.jsonl", "a3.jsonl"}) fs::copy_file(path(file), path("folder") + "/" + file);
  put("folder/a1.again1.jsonl", "not a run of its own");
  put("folder/a1.against.jsonl", "of another program");
  EXPECT_EQ(prnn("gate f.jsonl --baseline folder").code, 1) << get("stdout");
}

TEST_F(Gate, PairsFreshRunsWithWhatTookTurnsWithThem) {
  const auto in_session = [&](const std::string& name, const std::string& session, std::int64_t side, double factor) {
    record(name, [&](Provenance& head, std::vector<CaseRecord>& rows) {
      head.interleaved_with = Interleaved{session, side, "other/prnn", "beef"};
      for (CaseRecord& row : rows) {
        slow_down(row, factor);
        row.visits = {{2, 0, std::nullopt}, {2, 1, std::nullopt}, {1, 2, std::nullopt}};
      }
    });
  };
  in_session("f.jsonl", "s", 0, 1), in_session("f.against.jsonl", "s", 1, 1);
  const auto of = [&](int code) { return answer("gate f.jsonl --baseline f.against.jsonl --replay", code); };
  EXPECT_EQ(of(0)["verdicts"][0]["cases"][0]["compared"][0]["basis"], "3 pairs of processes");
  in_session("f.again1.jsonl", "t", 0, 1.1), in_session("f.again1.against.jsonl", "t", 1, 1);
  const auto both = of(0);  // three pairs at 0 %, three at 10 %: what differs so much enforces little
  EXPECT_EQ(both["verdicts"][0]["cases"][0]["compared"][0]["basis"], "6 pairs of processes");
  EXPECT_NEAR(both["verdicts"][0]["cases"][0]["compared"][0]["ratio"].get<double>(), std::sqrt(1.1), 1e-9);
  EXPECT_EQ(both["inputs"][3]["role"], "partner");
  EXPECT_EQ(both["inputs"][3]["path"], "f.again1.against.jsonl");
  // The same as a calibration: what took turns with it tells the noise of pairs.
  fs::create_directory(path("aa"));
  in_session("aa/1.jsonl", "u", 0, 1), in_session("aa/1.against.jsonl", "u", 1, 1.001);
  const auto calibrated = answer("gate f.jsonl --baseline f.against.jsonl --calibration aa --replay", 0);
  EXPECT_EQ(calibrated["verdicts"][0]["cases"][0]["compared"][0]["basis"], "6 pairs of processes, noise of 3 A/A pairs");
  EXPECT_EQ(calibrated["inputs"][5]["role"], "calibration");
  EXPECT_EQ(calibrated["inputs"][5]["path"], "aa/1.against.jsonl");
}

TEST(GateMarkdown, ShowsTheRatioThatFailed) {
  CaseVerdict verdict{.case_id = "a", .finding = Finding::slower};
  verdict.compared = {{.metric = "time"}, {.metric = "speedup over auto", .ratio = 2, .low = 1.9, .high = 2.1, .finding = Finding::slower}};
  GateReport report;
  report.verdicts.push_back({.candidate = "f", .baseline = "b", .cases = {verdict}});
  EXPECT_NE(gate_markdown(report).find("| slower | `a` | - | - | +100.0 % (+90.0 % .. +110.0 %) |"), std::string::npos) << gate_markdown(report);
}

TEST_F(Gate, SavesOnlyRunsOfOneProgramAsItIs) {
  const std::string name = fresh_name("refused");
  refused("baseline save " + name + " b.jsonl b.jsonl", "b.jsonl: the same record as b.jsonl; expected runs of their own");
  record("x.jsonl", [](Provenance& head, std::vector<CaseRecord>&) { head.inject = "slowdown=0.03"; });
  refused("baseline save " + name + " x.jsonl", "x.jsonl: made with --inject slowdown=0.03; expected a record of the program as it is");
  const std::vector<std::pair<std::string, Change>> others = {{"commit", [](Provenance& head, auto&) { head.commit = "x"; }},
                                                              {"machine or build", [](Provenance& head, auto&) { head.fingerprint = "x"; }},
                                                              {"suite", [](Provenance& head, auto&) { head.suite_sha256 = "x"; }},
                                                              {"device", [](Provenance&, auto& rows) { rows[0].device = "x"; }}};
  for (const auto& [what, change] : others) {
    record("x.jsonl", change);
    refused("baseline save " + name + " b.jsonl x.jsonl", "x.jsonl: of another " + what + " (x) than b.jsonl; expected ");
  }
  EXPECT_TRUE(baseline_files(name).empty());
}

// The baseline lies exactly where the margin is enforced, 11 % with nothing calibrated, so the first verdict is inconclusive whatever this machine does.
TEST_F(Gate, RunsAgainWhatIsInconclusiveAndReplaysTheSameVerdict) {
  const std::string words = "run small.toml --device cpu --no-report --set seq_len=2,3 --out r.jsonl";
  ASSERT_EQ(prnn(words).code, 0);
  Records now = read_records(path("r.jsonl"));
  slow_down(now.rows[0], 1 / (1 + std::expm1((1.959964 + 2.575829) * 0.02 * std::sqrt(4 / 3.0))));
  slow_down(now.rows[1], 10);  // an improvement: nothing to run again
  {
    RecordWriter writer = RecordWriter::create(path("before.jsonl"));
    writer.write(now.head);
    writer.write(now.rows);
  }
  put("never.toml", "[resample]\nruns = 0\n");
  EXPECT_EQ(prnn("gate r.jsonl --baseline before.jsonl --policy never.toml").code, 4) << get("stdout");
  EXPECT_NE(get("stdout").find("next: prnn gate r.jsonl --baseline NAME with a larger resample.runs"), std::string::npos);
  EXPECT_FALSE(fs::exists(path("r.again1.jsonl")));
  put("r.again1.jsonl.part.jsonl", "what a killed gate leaves");
  const auto verdict = answer("gate r.jsonl --baseline before.jsonl", prnn("gate r.jsonl --baseline before.jsonl").code);
  ASSERT_TRUE(fs::exists(path("r.again1.jsonl"))) << verdict.dump();
  EXPECT_FALSE(fs::exists(path("r.again1.jsonl.part.jsonl")));
  EXPECT_FALSE(fs::exists(path("r.again3.jsonl")));  // resample.runs = 2
  const std::vector<CaseRecord> again = read_records(path("r.again1.jsonl")).rows;
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].case_id, now.rows[0].case_id);
  EXPECT_GE(verdict["verdicts"][0]["cases"][0]["runs"], 2);
  EXPECT_EQ(verdict["verdicts"][0]["cases"][1]["runs"], 1);
  EXPECT_EQ(answer("compare before.jsonl r.jsonl", 0)["cases"][0]["basis"], verdict["verdicts"][0]["cases"][0]["compared"][0]["basis"]);
  const auto replayed = answer("gate r.jsonl --baseline before.jsonl --replay", verdict["exit_code"]);
  EXPECT_EQ(replayed["verdicts"], verdict["verdicts"]);
  EXPECT_EQ(replayed["inputs"], verdict["inputs"]);
}

TEST_F(Gate, RunsAgainAsManyProcessesOfBothAsAtFirst) {
  ASSERT_EQ(prnn("run small.toml --device cpu --no-report --set seq_len=2 --against '" + exe_.string() + "' --processes 1 --inject slowdown=4 --out r.jsonl").code, 0);
  EXPECT_EQ(prnn("gate r.jsonl --baseline r.against.jsonl").code, 1) << get("stdout");
  const Records again = read_records(path("r.again1.jsonl"));
  EXPECT_EQ(again.head.inject, "slowdown=4");
  for (const CaseRecord& row : again.rows) EXPECT_EQ(row.visits->back().process, 0);
  EXPECT_EQ(read_records(path("r.again1.against.jsonl")).rows.size(), again.rows.size());
}

TEST_F(Gate, RunsNothingAgainWhereThingsAreNotAsTheyWere) {
  ASSERT_EQ(prnn("run small.toml --device cpu --no-report --set seq_len=2 --out r.jsonl").code, 0);
  Records now = read_records(path("r.jsonl"));
  const double time_s = now.rows[0].samples_s[0];
  const auto expect_nothing_again = [&](int code, const std::string& said) {
    now.rows[0].samples_s = {time_s};
    for (const char* name : {"r.jsonl", "before.jsonl"}) {
      fs::remove(path(name));
      RecordWriter writer = RecordWriter::create(path(name));
      writer.write(now.head);
      writer.write(now.rows);
      slow_down(now.rows[0], 0.1);
    }
    EXPECT_EQ(prnn("gate r.jsonl --baseline before.jsonl").code, code);
    EXPECT_NE(get("stdout").find(said), std::string::npos) << get("stdout");
    EXPECT_FALSE(fs::exists(path("r.again1.jsonl")));
  };
  const Provenance head = now.head;
  now.head.fingerprint = "there";
  expect_nothing_again(1, "note: nothing is run again: r.jsonl is of another machine or build\n");
  now.head = head;
  now.head.command += " --set policy.threads=0";
  expect_nothing_again(1, "note: nothing is run again: --set policy.threads=0: ");
  now.head = head;
  now.head.command += " --inject nothing-of-this-kind";
  expect_nothing_again(1, "note: nothing is run again: code 64 and no whole record from ./prnn run small.toml --device cpu --set seq_len=2 --inject nothing-of-this-kind --only ");
  now.head = head;
  put("small.toml", std::string(kSmall) + "batch = 2\n");
  expect_nothing_again(1, "note: nothing is run again: small.toml, the suite of r.jsonl, is not here as it was\n");
  put("small.toml", kSmall);
  now.rows[0].status = Status::wrong;
  expect_nothing_again(2, "1 wrong\nexit code 2\n");  // which no time changes
}

TEST(ShellWords, AreTheInverseOfQuoting) {
  const std::vector<std::string> words = {"prnn", "a b", "it's", "", "--only", "^x|y$", "'", "\\"};
  std::string line;
  for (const std::string& word : words) line += (line.empty() ? "" : " ") + quoted(word);
  EXPECT_EQ(shell_words(line), words);
  EXPECT_EQ(shell_words("  a   b "), (std::vector<std::string>{"a", "b"}));
  EXPECT_THROW(shell_words("a 'b"), BadInput);
}

TEST(ExactlyTheseNames, AreMatchedAndNoOthers) {
  const auto fits = name_filter("--only", exactly({"a.b/(c)", "x+"}));
  EXPECT_TRUE(fits("a.b/(c)") && fits("x+"));
  for (const char* other : {"aXb/(c)", "xx", "x+1", "1x+", "a.b/(c)|x+", ""}) EXPECT_FALSE(fits(other)) << other;
  EXPECT_FALSE(name_filter("--only", exactly({"ab"}))("abc"));
}

}  // namespace
}  // namespace prnn
