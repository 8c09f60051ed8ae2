// damage.test.cpp: the built program is killed, fills the disk, faults or hangs: what was measured stays and is not measured again, and the rest can be done.
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "harness/baseline.hpp"
#include "harness/program_test.hpp"
#include "harness/record.hpp"

namespace prnn {
namespace {

namespace fs = std::filesystem;

/// How many times, from the environment; `few` in CI.
int repeats(const char* variable, int few) {
  const char* chosen = std::getenv(variable);
  return chosen ? std::stoi(chosen) : few;
}

class Damage : public Program {
 protected:
  Records records() { return read_records((folder_ / "r.jsonl").string()); }

  std::set<std::string> planned(const std::string& words) {
    const auto answer = nlohmann::json::parse(prnn(words + " --dry --json").out);
    std::set<std::string> ids;
    for (const auto& c : answer["plan"]) ids.insert(c["case_id"].get<std::string>());
    return ids;
  }
  /// The process that does the work of a started program; none yet: 0.
  static pid_t worker(pid_t program) {
    pid_t child = 0;
    std::ifstream("/proc/" + std::to_string(program) + "/task/" + std::to_string(program) + "/children") >> child;
    return child;
  }
  /// Every row once, each with the status of an undisturbed run but for the cases named.
  void expect_whole(const std::set<std::string>& ids, const std::map<std::string, Status>& but = {}) {
    std::set<std::string> seen;
    for (const CaseRecord& row : records().rows) {
      EXPECT_TRUE(seen.insert(row.case_id).second) << row.case_id << " twice";
      EXPECT_EQ(row.status, but.contains(row.case_id) ? but.at(row.case_id) : Status::ok) << row.case_id << ": " << row.reason;
    }
    EXPECT_EQ(seen, ids);
  }
};

constexpr const char* kManyGroups =
    "title = \"t\"\ncells = [\"gru_diag\", \"elman_diag\"]\nsolvers = [\"seq_fused\", \"newton_fused\"]\nbatch = [1, 2, 3, 4]\nhidden = 32\nseq_len = [16, 64]\n";

TEST_F(Damage, AKilledRunLosesAtMostTheGroupInFlight) {
  put("many.toml", kManyGroups);
  const std::string words = "run many.toml --device cpu --no-report --out r.jsonl";
  const std::set<std::string> ids = planned(words);
  ASSERT_EQ(ids.size(), 32u);
  const std::uint32_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  std::string before;  // the groups that were whole, as they stood in the file
  std::size_t rows = 0;
  for (int kill_number = 0; kill_number < repeats("PRNN_TEST_KILLS", 10); ++kill_number) {
    if (rows == ids.size()) {  // all of it is there: from the start
      fs::remove(folder_ / "r.jsonl");
      before.clear();
    }
    const pid_t child = start(words + " --resume");
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 1000));
    kill(child, SIGKILL);
    wait(child);
    if (!fs::exists(folder_ / "r.jsonl")) continue;
    const Records now = records();  // throws where a line that is whole does not parse
    const std::string whole = get("r.jsonl").substr(0, static_cast<std::size_t>(now.whole_bytes));
    EXPECT_TRUE(whole.starts_with(before)) << "what was measured is gone or was measured again";
    std::map<std::string, int> of_group;
    for (const CaseRecord& row : now.rows) ++of_group[row.group_id];
    for (const auto& [group_id, count] : of_group) EXPECT_EQ(count, 2) << group_id;
    before = whole;
    rows = now.rows.size();
  }
  const Ended e = prnn(words + " --resume");
  EXPECT_EQ(e.code, 0) << e.err;
  EXPECT_TRUE(get("r.jsonl").starts_with(before));
  expect_whole(ids);
}

TEST_F(Damage, AKilledReportLeavesNoPageOrAWholeOne) {
  ASSERT_EQ(prnn("run small.toml --device cpu --no-report --out r.jsonl").code, 0);
  const std::string record = get("r.jsonl");
  std::mt19937 random(std::random_device{}());
  const auto expect_page = [&] {
    EXPECT_TRUE(get("r.html").ends_with("</html>\n"));
    EXPECT_FALSE(nlohmann::json::parse(get("verdicts.json"))["verdicts"].empty());
  };
  for (int kill_number = 0; kill_number < repeats("PRNN_TEST_KILLS", 10) / 5; ++kill_number) {
    const pid_t child = start("report r.jsonl");
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 1500));
    kill(child, SIGKILL);
    wait(child);
    if (fs::exists(folder_ / "r.html") && fs::exists(folder_ / "verdicts.json")) expect_page();
  }
  const Ended e = prnn("report r.jsonl");
  EXPECT_EQ(e.code, 0) << e.err;
  expect_page();
  EXPECT_EQ(get("r.jsonl"), record);
}

TEST_F(Damage, AKilledGateLeavesWholeRecordsAndTakesItsRunAlong) {
  ASSERT_EQ(prnn("run small.toml --device cpu --no-report --out r.jsonl").code, 0);
  Records before = records();
  for (CaseRecord& row : before.rows) {
    for (double& sample : row.samples_s) sample /= 10;  // all are slower now, which a second run is to confirm
  }
  {
    RecordWriter writer = RecordWriter::create((folder_ / "b.jsonl").string());
    writer.write(before.head);
    writer.write(before.rows);
  }
  const std::string record = get("r.jsonl"), path = (folder_ / "r.jsonl").string(), words = "gate r.jsonl --baseline b.jsonl --junit j.xml --markdown m.md";
  std::mt19937 random(std::random_device{}());
  for (int kill_number = 0; kill_number < repeats("PRNN_TEST_KILLS", 10) / 2; ++kill_number) {
    const pid_t child = start(words);
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 1000));
    const pid_t run = worker(child);
    kill(child, SIGKILL);
    wait(child);
    const auto is_gone = [&] { return content("/proc/" + std::to_string(run) + "/cmdline").empty(); };
    EXPECT_TRUE(run == 0 || becomes_true(is_gone, 10)) << "its run goes on";
    EXPECT_EQ(get("r.jsonl"), record);
    const Runs candidate = load_candidate(path);  // throws where a fresh run is there but not whole
    for (const RecordFile& file : candidate.files) EXPECT_EQ(file.rows.size(), 3u);
    for (const char* output : {"j.xml", "m.md"}) {
      const std::string text = get(output), end = output[0] == 'j' ? "</testsuites>\n" : "` |\n";
      EXPECT_TRUE(text.empty() || text.ends_with(end)) << text;
    }
  }
  const Ended e = prnn(words + " --json");
  EXPECT_EQ(e.code, 1) << e.err;
  EXPECT_EQ(nlohmann::json::parse(e.out)["verdicts"], nlohmann::json::parse(prnn(words + " --json --replay").out)["verdicts"]);
}

TEST_F(Damage, AFullDiskIsOneLineAndTheRunGoesOnWhereThereIsRoom) {
  const std::set<std::string> ids = planned(kVerify);
  for (int blocks = 1; blocks <= 64; blocks *= 2) {  // of 512 bytes (dash) or 1024 (bash)
    const Ended e = prnn(kVerify, "ulimit -f " + std::to_string(blocks) + ";");
    if (e.code == 0) {
      EXPECT_GT(blocks, 4) << "it never came to an end of the disk";
      break;
    }
    EXPECT_EQ(e.code, 5) << e.err;
    EXPECT_NE(e.err.find("r.jsonl: File too large; the rows written before are whole, --resume continues\n"), std::string::npos) << e.err;
    const Records left = records();
    EXPECT_EQ(left.whole_bytes, static_cast<std::int64_t>(get("r.jsonl").size())) << "a line is cut";
    EXPECT_EQ(prnn(std::string(kVerify) + "--resume").code, 0);
    expect_whole(ids);
    fs::remove(folder_ / "r.jsonl");
    fs::remove_all(folder_ / "cache");
  }
}

TEST_F(Damage, OutputThatCannotBeWrittenIsOneLine) {
  refused("verify small.toml --out /dev/full", "--out /dev/full: the file exists; expected a new name, or --resume");
  refused("verify small.toml --out /dev/full --resume", "/dev/full: no such file; expected a record");
  refused("verify small.toml --out /dev/zero --resume", "/dev/zero: no such file; expected a record");
  refused("verify /dev/zero", "/dev/zero: cannot be read; expected a suite");
  ASSERT_EQ(prnn(kVerify).code, 0);
  refused("report r.jsonl --out /proc/none", "/proc/none: ");
  const auto full = [&](const std::string& words) {
    const int status = std::system((command(words).substr(0, command(words).find(" >stdout")) + " >/dev/full 2>stderr").c_str());
    EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 5) << words;
    EXPECT_TRUE(get("stderr").ends_with("standard output: cannot be written\n")) << words << ": " << get("stderr");
  };
  full("list");
  full("verify small.toml --device cpu --no-report --json --out s.jsonl");
  EXPECT_EQ(read_records((folder_ / "s.jsonl").string()).rows.size(), 3u);
}

TEST_F(Damage, APageThatDoesNotFitIsOneLineAndTheRecordStays) {
  ASSERT_EQ(prnn("run small.toml --device cpu --no-report --out r.jsonl").code, 0);
  ASSERT_EQ(prnn("report r.jsonl --out elsewhere").code, 0);  // the font cache is not what is to be too large
  const Ended e = prnn("report r.jsonl --out page", "ulimit -f 8;");
  EXPECT_EQ(e.code, 5);
  EXPECT_EQ(e.err, "page: File too large; expected room for the page\n");
  EXPECT_TRUE(fs::is_empty(folder_ / "page"));
}

TEST_F(Damage, ANameThatIsNoUtf8LosesNoRow) {
  put("\xff.toml", kSmall);
  EXPECT_EQ(prnn("verify \xff.toml --device cpu --no-report --out r.jsonl").code, 0);
  EXPECT_EQ(records().rows.size(), 3u);
}

constexpr const char* kSlow =
    "title = \"t\"\ncells = [\"elman_diag\"]\nsolvers = [\"seq_fused\", \"newton_fused\"]\nhidden = [64, 65, 66]\nseq_len = 8192\nmetrics = [\"newton\"]\n"
    "limits = { case_s = 2, reference_s = 1 }\n";

/// Processor time of a process in clock ticks.
long ticks(pid_t process) {
  std::string text = content("/proc/" + std::to_string(process) + "/stat");
  std::istringstream fields(text.substr(std::min(text.rfind(')'), text.size())));
  std::string field;
  for (int i = 3; i <= 14 && fields >> field; ++i) continue;  // utime is the 14th, ") S" two of them
  return (fields >> field) ? std::atol(field.c_str()) : 0;
}

/// Waits until the second group is computed and does something to the process at work: one case has the row of it, the first group stays as it was, the others are ok.
class DamageToTheWorker : public Damage {
 protected:
  void expect_one_row(int signal, Status status, const std::string& reason) {
    put("slow.toml", kSlow);
    const std::string words = "verify slow.toml --device cpu --no-report --out r.jsonl";
    const std::set<std::string> ids = planned(words);
    const pid_t child = start(words);
    ASSERT_TRUE(becomes_true([&] { return lines("r.jsonl") >= 3; }, 60));
    const std::string before = get("r.jsonl");
    const pid_t first = worker(child);
    ASSERT_GT(first, 0);
    const long written = ticks(first);
    ASSERT_TRUE(becomes_true([&] { return ticks(first) > written + 5; }, 60));
    kill(first, signal);
    const Ended e = wait(child);
    EXPECT_EQ(e.code, 5) << e.err;
    EXPECT_NE(e.err.find(reason + "; the rest goes on in a fresh process\n"), std::string::npos) << e.err;
    EXPECT_TRUE(get("r.jsonl").starts_with(before)) << "what was measured is gone or was measured again";
    std::map<std::string, Status> hit;
    for (const CaseRecord& row : records().rows) {
      if (row.status == Status::ok) continue;
      hit[row.case_id] = status;
      EXPECT_EQ(row.reason, reason);
    }
    EXPECT_EQ(hit.size(), 1u);
    expect_whole(ids, hit);
    EXPECT_EQ(prnn(words + " --resume").code, 0) << "a person's --resume tries it again";
    expect_whole(ids);
  }
};

TEST_F(DamageToTheWorker, AFaultIsARowAndTheRestGoesOn) { expect_one_row(SIGSEGV, Status::error, "signal 11 (Segmentation fault) ended the process"); }
TEST_F(DamageToTheWorker, AHangIsARowAndTheRestGoesOn) { expect_one_row(SIGSTOP, Status::timeout, "no sign of life for 5 s; its process was killed"); }

}  // namespace
}  // namespace prnn
