// against.test.cpp: two programs take turns: their records pair visit by visit, and a program that is no prnn, dies or hangs costs a line or rows, never the run.
#include "harness/against.hpp"

#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "harness/measurer.hpp"
#include "harness/program_test.hpp"
#include "harness/record.hpp"
#include "harness/statistics.hpp"

namespace prnn {
namespace {

namespace fs = std::filesystem;

class Against : public Program {
 protected:
  static constexpr const char* kSuite =
      "title = \"t\"\ncells = [\"elman_diag\"]\nsolvers = [\"seq_fused\", \"newton_fused\"]\nbaselines = [\"seq_fused\"]\nhidden = 3\nseq_len = [2, 3]\ncache = \"hot\"\n"
      "limits = { case_s = 60, reference_s = 60 }\n";  // of a machine that has other things to do
  void SetUp() override {
    Program::SetUp();
    put("suite.toml", kSuite);
  }
  std::string words(const std::string& other, const std::string& rest = "") const {
    return "run suite.toml --device cpu --no-report --out r.jsonl --against '" + other + "' " + rest;
  }
  /// An executable script in the test's folder.
  std::string script(const std::string& name, const std::string& text) {
    put(name, "#!/bin/sh\n" + text + "\n");
    fs::permissions(folder_ / name, fs::perms::owner_all);
    return (folder_ / name).string();
  }
  Records mine() { return read_records((folder_ / "r.jsonl").string()); }
  Records others() { return read_records((folder_ / "r.against.jsonl").string()); }
  /// One line, this exit code, and the part in it; no record is begun.
  void fails(const std::string& other, int code, const std::string& part) {
    const Ended e = prnn(words(other));
    EXPECT_EQ(e.code, code) << other << ": " << e.err;
    EXPECT_EQ(std::count(e.err.begin(), e.err.end(), '\n'), 1) << other << ": " << e.err;
    EXPECT_NE(e.err.find(part), std::string::npos) << other << ": " << e.err;
    EXPECT_FALSE(fs::exists(folder_ / "r.jsonl")) << other;
    EXPECT_FALSE(fs::exists(folder_ / "r.against.jsonl")) << other;
  }
  /// All cases in both records, each visited equally often by each of so many processes.
  void expect_paired(std::int64_t processes, std::int64_t visits_a_process) {
    const Records a = mine(), b = others();
    ASSERT_TRUE(a.head.interleaved_with && b.head.interleaved_with);
    EXPECT_EQ(a.head.interleaved_with->session, b.head.interleaved_with->session);
    EXPECT_EQ(a.head.interleaved_with->session.size(), 16u);
    EXPECT_EQ(a.head.interleaved_with->side, 0);
    EXPECT_EQ(b.head.interleaved_with->side, 1);
    EXPECT_EQ(a.head.interleaved_with->commit, b.head.commit);
    EXPECT_EQ(a.head.order_seed, b.head.order_seed);
    ASSERT_EQ(a.rows.size(), 4u);
    ASSERT_EQ(b.rows.size(), 4u);
    for (std::size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(a.rows[i].case_id, b.rows[i].case_id);
      for (const CaseRecord* row : {&a.rows[i], &b.rows[i]}) {
        EXPECT_EQ(row->status, Status::ok) << row->reason;
        ASSERT_TRUE(row->visits) << row->null_reasons.at("visits");
        std::vector<std::int64_t> of_process(static_cast<std::size_t>(processes));
        std::int64_t last = 0;
        for (const Visit& visit : *row->visits) {
          EXPECT_GE(visit.process, last);
          last = visit.process;
          ++of_process.at(static_cast<std::size_t>(visit.process));
        }
        EXPECT_EQ(of_process, std::vector<std::int64_t>(static_cast<std::size_t>(processes), visits_a_process));
        EXPECT_LE(row->samples_s.size(), kSamplesKept);
        EXPECT_EQ(row->time_s->samples, std::ssize(row->samples_s));
        EXPECT_EQ(row->time_s->median, median(row->samples_s));  // of all processes
      }
      for (const Records* records : {&a, &b}) {
        const std::size_t baseline = i / 2 * 2;  // the first of each group
        ASSERT_EQ(records->rows[baseline].solver, "seq_fused");
        if (records->head.suite_text != kSuite) continue;  // no baseline
        EXPECT_EQ(records->rows[i].speedup.at("seq_fused").ratio, i == baseline ? 1 : median(records->rows[baseline].samples_s) / median(records->rows[i].samples_s));
      }
    }
  }
};

TEST_F(Against, TwoProgramsTakeTurns) {
  const Ended e = prnn(words(exe_.string(), "--processes 2"));
  EXPECT_EQ(e.code, 0) << e.err;
  expect_paired(2, 4);
  EXPECT_EQ(mine().head.interleaved_with->program, exe_.string());
  EXPECT_NE(e.out.find("4 rows, 0 not as expected; r.against.jsonl"), std::string::npos) << e.out;
  EXPECT_TRUE(mine().rows[0].error->reference.starts_with("mpfr")) << "the first process holds it against 50 digits";
  EXPECT_NE(mine().head.command.find("--against"), std::string::npos);
  EXPECT_EQ(mine().head.command, others().head.command);
  for (const auto& entry : fs::directory_iterator(folder_)) EXPECT_NE(entry.path().extension(), ".resume");
  refused(words(exe_.string()), "--out r.jsonl: the file exists");
  const std::string before = get("r.jsonl");
  EXPECT_EQ(prnn(words(exe_.string(), "--processes 2 --resume")).code, 0);
  EXPECT_EQ(get("r.jsonl"), before) << "nothing was left to do";
}

TEST_F(Against, TheFirstProcessMeasuresWhatTheOthersAreTold) {
  const std::string told = (folder_ / "told").string();
  const std::string other = script("overheard", "exec 3<&0; mkfifo fifo$$; tee -a '" + told + "' <&3 >fifo$$ & exec '" + exe_.string() + "' \"$@\" <fifo$$");
  ASSERT_EQ(prnn(words(other, "--processes 2")).code, 0);
  std::istringstream stream(get("told"));
  std::vector<Json> begins;
  for (std::string line; std::getline(stream, line);) {
    const Json said = Json::parse(line);
    if (said.contains("begin")) begins.push_back(said.at("begin"));
  }
  ASSERT_EQ(begins.size(), 2u);
  EXPECT_EQ(begins[0]["judge"], true);
  EXPECT_EQ(begins[1]["judge"], false) << "50 digits are asked once";
  EXPECT_TRUE(begins[0]["copy_bytes_per_s"].is_null());
  EXPECT_EQ(begins[1]["copy_bytes_per_s"], *others().head.copy_bytes_per_s);
  EXPECT_EQ(begins[0]["order_seed"], mine().head.order_seed);
}

TEST_F(Against, WhatIsNoProgramIsRefused) {
  for (const char* none : {"none", ".", "suite.toml"}) refused(words(none), std::string("--against ") + none + ": cannot be run; expected another build of prnn");
  refused(words(exe_.string(), "--processes 0"), "--processes 0: expected 1 to 50");
  refused("verify suite.toml --against x", "prnn verify: unknown flag '--against'");
  put("untimed.toml", std::string(kSmall) + "metrics = [\"error\"]\n");
  refused("run untimed.toml --device cpu --against '" + exe_.string() + "'", "--against: untimed.toml has no metric");
}

TEST_F(Against, WhatIsNoPrnnIsOneLine) {
  fails("/bin/true", 64, "--against: /bin/true: it ended with exit code 0; expected a prnn that takes turns");
  fails("/bin/cat", 64, "/bin/cat: it ended with exit code 1 (");
  fails(script("talks", "echo hello; sleep 60"), 64, "talks: what it says is not understood: hello");
  fails(script("older", "echo \"prnn run: unknown flag '--turns'\" >&2; exit 64"), 64, "it ended with exit code 64 (prnn run: unknown flag '--turns')");
  fails(script("faults", "kill -SEGV $$"), 64, "signal 11");
  fails(script("newer", "echo '{\"hello\": 99}'; sleep 60"), 64, "version 99 of the rules, not 1");
  fails(script("vague", "echo '{\"hello\": 1}'; sleep 60"), 64, "what it says is not understood: {\"hello\":1}");
}

TEST_F(Against, AProgramThatHangsIsKilled) {
  const std::string hangs = script("hangs", "exec sleep 60");
  const auto start = std::chrono::steady_clock::now();
  Measurer measurer(hangs, {}, 0.5, {});
  try {
    measurer.advance();
    FAIL();
  } catch (const ProgramFailed& error) {
    EXPECT_EQ(error.what(), "--against: " + hangs + ": no sign of life for 0.5 s; it was killed; expected a prnn that takes turns");
    EXPECT_EQ(error.code, 64);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
}

TEST_F(Against, AProgramThatIsUpMeasuresNothingBeforeItIsTold) {
  put("hello.json", Json{{"hello", 1}, {"head", to_json(Provenance{})}}.dump() + "\n");
  const std::string waits = script("waits", "cat '" + (folder_ / "hello.json").string() + "'; read begin; echo \"$begin\" >'" + (folder_ / "told").string() + "'; exit 3");
  int begun = 0;
  Measurer measurer(waits, {}, 60,
                    {.begin =
                         [&](const Provenance&) {
                           ++begun;
                           return Json{{"judge", true}};
                         },
                     .todo = {}});
  measurer.greet();
  measurer.greet();
  EXPECT_EQ(begun, 0);
  EXPECT_THROW(measurer.advance(), ProgramFailed);
  EXPECT_EQ(begun, 1);
  EXPECT_EQ(get("told"), "{\"begin\":{\"judge\":true}}\n");
}

TEST_F(Against, AProgramThatGivesUpHalfwayLeavesWholeRecords) {
  const std::string other = script("fickle", "echo >>starts; test $(wc -l <starts) -lt 2 || { echo no more >&2; exit 3; }\nexec '" + exe_.string() + "' \"$@\"");
  const Ended e = prnn(words(other, "--processes 2"));
  EXPECT_EQ(e.code, 5) << e.err;
  EXPECT_NE(e.err.find("fickle: it ended with exit code 3 (no more); expected a prnn"), std::string::npos) << e.err;
  expect_paired(1, 4);
  EXPECT_EQ(prnn(words(exe_.string(), "--processes 2 --resume")).code, 0);
  expect_paired(2, 4);
}

TEST_F(Against, ResumeIsOfTheSameTwoRecords) {
  ASSERT_EQ(prnn(words(exe_.string(), "--processes 1")).code, 0);
  fs::copy(folder_ / "r.jsonl", folder_ / "kept.jsonl");
  fs::copy(folder_ / "r.against.jsonl", folder_ / "kept.against.jsonl");
  fs::remove(folder_ / "r.jsonl");
  fs::remove(folder_ / "r.against.jsonl");
  ASSERT_EQ(prnn(words(exe_.string(), "--processes 1")).code, 0);
  fs::rename(folder_ / "kept.against.jsonl", folder_ / "r.against.jsonl");
  refused(words(exe_.string(), "--resume"), "--resume: r.jsonl and r.against.jsonl are not of one run --against");
  fs::remove(folder_ / "r.against.jsonl");  // with one of the two, what pairs is measured anew
  EXPECT_EQ(prnn(words(exe_.string(), "--processes 1 --resume")).code, 0);
  expect_paired(1, 10);
}

TEST_F(Against, ACaseThatTheOtherLacksIsMeasuredAlone) {
  const std::string other = script("fewer", "exec '" + exe_.string() + "' \"$@\" --only 'seq_fused|L3'");
  const Ended e = prnn(words(other, "--processes 2"));
  EXPECT_EQ(e.code, 0) << e.err;
  EXPECT_EQ(others().rows.size(), 3u);
  for (const CaseRecord& row : mine().rows) {
    EXPECT_EQ(row.status, Status::ok);
    EXPECT_GT(row.samples_s.size(), 0u);
    EXPECT_EQ(row.visits.has_value(), row.solver == "seq_fused" || row.problem.seq_len == 3) << row.case_id;
  }
}

TEST_F(Against, DamageIsDoneToThisProgramOnly) {
  const Ended e = prnn(words(exe_.string(), "--processes 1 --inject truncate=12:seq_fused"));
  EXPECT_EQ(e.code, 2) << e.err;
  for (const CaseRecord& row : mine().rows) EXPECT_EQ(row.status, row.solver == "seq_fused" ? Status::wrong : Status::ok) << row.case_id;
  for (const CaseRecord& row : others().rows) EXPECT_EQ(row.status, Status::ok) << row.case_id;
  EXPECT_EQ(mine().head.inject, "truncate=12:seq_fused");
  EXPECT_EQ(others().head.inject, "");
}

/// The processes that a process has started.
std::vector<pid_t> children(pid_t process) {
  std::ifstream list("/proc/" + std::to_string(process) + "/task/" + std::to_string(process) + "/children");
  return {std::istream_iterator<pid_t>(list), {}};
}

TEST_F(Against, AFaultIsARowOrOneLineAndTheRestCanBeDone) {
  put("suite.toml",
      "title = \"t\"\ncells = [\"elman_diag\"]\nsolvers = [\"seq_fused\", \"newton_fused\"]\nhidden = [64, 65]\nseq_len = 1024\nmetrics = [\"time\"]\ncache = \"hot\"\nlimits = { "
      "case_s = 60 }\n");
  const std::string line = words(exe_.string(), "--processes 1 ");
  const pid_t program = start(line);
  ASSERT_TRUE(becomes_true([&] { return lines("r.jsonl") > 0 && lines("r.against.jsonl") > 0; }, 60)) << "both have a group ready";
  const std::vector<pid_t> measurers = children(program);
  ASSERT_EQ(measurers.size(), 2u);
  const std::vector<pid_t> workers = children(measurers[1]);
  ASSERT_EQ(workers.size(), 1u);
  kill(workers[0], SIGSEGV);
  const Ended e = wait(program);
  EXPECT_NE(e.err.find("signal 11"), std::string::npos) << e.err;
  std::int64_t errors = 0;
  for (const Records& records : {mine(), others()}) {
    for (const CaseRecord& row : records.rows) errors += row.status == Status::error;
  }
  if (e.err.find("no case was in flight") == std::string::npos) EXPECT_EQ(errors, 1) << e.err;
  else EXPECT_EQ(e.code, 5) << e.err;
  EXPECT_EQ(prnn(line + "--resume").code, 0);
  expect_paired(1, 10);
}

TEST_F(Against, AKilledRunKeepsPairs) {
  const std::string line = words(exe_.string(), "--processes 2 --resume");
  for (int number = 0; number < 4; ++number) {
    const pid_t child = start(line);
    std::this_thread::sleep_for(std::chrono::milliseconds(150 + 250 * number));
    kill(child, SIGKILL);
    wait(child);
    if (!fs::exists(folder_ / "r.jsonl") || !fs::exists(folder_ / "r.against.jsonl")) continue;
    mine(), others();  // throw where a line does not parse
  }
  const Ended e = prnn(line);
  EXPECT_EQ(e.code, 0) << e.err;
  expect_paired(2, 4);
}

}  // namespace
}  // namespace prnn
