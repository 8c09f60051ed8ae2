// bad_input.test.cpp: bad usage, bad input and bad luck, through the built program: the exit code of design section 1 and one line that says where, what
// and what was expected.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "harness/program_test.hpp"
#include "harness/record.hpp"
#include "harness/statistics.hpp"

namespace prnn {
namespace {

namespace fs = std::filesystem;

TEST_F(Program, RunsVerifiesAndRecordsASuite) {
  const Ended e = prnn(kVerify);
  EXPECT_EQ(e.code, 0) << e.err;
  EXPECT_EQ(lines("r.jsonl"), 4);
  const Records records = read_records((folder_ / "r.jsonl").string());
  EXPECT_EQ(records.head.command.substr(0, 23), "prnn verify small.toml ");
  for (const CaseRecord& row : records.rows) {
    EXPECT_EQ(row.status, Status::ok) << row.reason;
    EXPECT_FALSE(row.time_s) << "verify must not time";
    EXPECT_TRUE(row.error && row.error->ratio_forward);
  }
  EXPECT_NE(e.out.find("r.jsonl"), std::string::npos);
  EXPECT_FALSE(fs::exists(folder_ / "r.html"));
}

TEST_F(Program, TimesWithRunAndAnswersInJson) {
  put("small.toml", std::string(kSmall) + "baselines = \"seq_stepwise\"\n");
  const Ended e = prnn("run small.toml --device cpu --no-report --out r.jsonl --set seq_len=2 --json");
  EXPECT_EQ(e.code, 0) << e.err;
  const auto answer = nlohmann::json::parse(e.out);
  EXPECT_EQ(answer["exit_code"], 0);
  EXPECT_EQ(answer["record"], "r.jsonl");
  EXPECT_EQ(answer["rows"], 2);
  EXPECT_EQ(answer["planned"], 2);
  EXPECT_EQ(answer["status"]["ok"], 2);
  const Records records = read_records((folder_ / "r.jsonl").string());
  EXPECT_GT(records.head.copy_bytes_per_s.value_or(0), 0);
  for (const CaseRecord& row : records.rows) {
    EXPECT_EQ(row.problem.seq_len, 2);
    EXPECT_TRUE(row.time_s && row.time_s->median > 0);
    EXPECT_TRUE(row.speedup.contains("seq_stepwise"));
  }
}

TEST_F(Program, ShowsThePlanAndRunsNothingWhenDry) {
  const Ended e = prnn("run small.toml --device cpu --dry --out r.jsonl");
  EXPECT_EQ(e.code, 0) << e.err;
  EXPECT_NE(e.out.find("B1/D3/L4/"), std::string::npos) << e.out;
  EXPECT_NE(e.out.find("3 cases in 3 groups, 0 skipped"), std::string::npos) << e.out;
  EXPECT_FALSE(fs::exists(folder_ / "r.jsonl"));
  const auto plan = nlohmann::json::parse(prnn("verify small.toml --device cpu --dry --json --only L4/").out);
  EXPECT_EQ(plan["cases"], 1);
  ASSERT_EQ(plan["plan"].size(), 1u);
  EXPECT_GT(plan["plan"][0]["bytes"], 0);
  EXPECT_GT(plan["estimate_s"], 0);
  EXPECT_EQ(nlohmann::json::parse(prnn("verify small.toml --device cpu --dry --json --shard 2/3").out)["plan"][0]["case_id"].get<std::string>().find("/L3/") != std::string::npos,
            true);
}

TEST_F(Program, RefusesUnknownCommandsAndFlagsWithTheNearestName) {
  refused("", "prnn: ");
  refused("rnu small.toml", "prnn rnu: unknown command; did you mean 'run'?");
  refused("weather", "prnn weather: unknown command; known:");
  refused("run small.toml --dri", "prnn run: unknown flag '--dri'; did you mean '--dry'?");
  refused("run", "prnn run: ");
  refused("run small.toml --out", "prnn run: ");
  refused("list cels", "prnn list cels: unknown list; did you mean 'cells'?");
  refused("run small.toml --device gpu", "--device gpu: unknown device");
  refused("verify small.toml --shard 3/2", "--shard 3/2: expected i/n");
  refused("verify small.toml --only '['", "--only [: bad regular expression");
  refused("verify small.toml --only nothing", "--only nothing: matches none of the 3 cases of small.toml");
  refused("verify small.toml --set seq_len", "--set seq_len: expected axis=value,value");
  refused("verify small.toml --set seq_len=-4", "--set seq_len=-4: seq_len: -4 is outside");
  refused("verify small.toml --set hidden=4 --set hidden=5", "--set hidden=5: 'hidden' is set twice");
  refused("verify small.toml --set policy=4", "--set policy=4: expected a key of the policy, policy.threads=32");
  refused("verify small.toml --set hiden=4", "--set hiden=4: unknown axis 'hiden'; did you mean 'hidden'?");
  refused("verify small.toml --resume", "--resume: expected --out FILE");
}

TEST_F(Program, SaysWhatLaterVersionsBring) {
  for (const char* command : {"tune", "explain"}) refused(std::string(command) + " x", std::string("prnn ") + command + " is not part of this build yet\n");
  for (const char* flag : {"--profile", "--profile=x"}) refused(std::string("run small.toml ") + flag, "prnn run: --", "is not part of this build yet\n");
}

TEST_F(Program, SaysHowToBuildTheFaultsForASelftest) {
  fs::copy_file(exe_, folder_ / "alone");
  exe_ = folder_ / "alone";
  refused("selftest --json", (folder_ / "prnn_faults").string() + ": not built; expected", "--target prnn_faults");
  put("prnn_faults", "#!/bin/sh\necho \"$@\"\nexit 2\n");
  fs::permissions(folder_ / "prnn_faults", fs::perms::owner_all);
  const Ended e = prnn("selftest --json --trivial");
  EXPECT_EQ(e.out, "selftest --trivial --json\n");
  EXPECT_EQ(e.code, 2);
}

TEST_F(Program, RefusesBadSuitesNamingFileAndLine) {
  refused("run no/such.toml", "no/such.toml: no such file; expected a suite");
  refused_suite("", "bad.toml: the file is empty; expected");
  refused_suite(std::string("\x7f"
                            "ELF\0\1",
                            6),
                "bad.toml: expected a suite in TOML, not a binary file");
  refused_suite("\xff\xfe\xfa", "bad.toml:1: TOML: ");
  refused_suite("title = \"t\"\ncells = [\n", "bad.toml:", "TOML: ");
  refused_suite(std::string(kSmall) + "hiden = 3\n", "bad.toml:6: unknown key 'hiden' in suite; did you mean 'hidden'?");
  refused_suite("title = \"t\"\ncells = [\"gru_dag\"]\nsolvers = [\"seq_fused\"]\n", "bad.toml:2: unknown cell 'gru_dag'; did you mean 'gru_diag'?");
  refused_suite("title = \"t\"\ncells = [\"gru_diag\"]\nsolvers = [\"seq_fussed\"]\n", "bad.toml:3: unknown solver 'seq_fussed'; did you mean 'seq_fused'?");
  refused_suite("title = \"t\"\ncells = [\"gru_diag\"]\nsolvers = [\"auto\"]\nscope = \"layer\"\n", "bad.toml:4: scope 'layer' is not part of this build yet");
  refused_suite(std::string(kSmall) + "regime = \"papr\"\n", "bad.toml:6: unknown regime 'papr'; did you mean 'paper'?");
  for (const char* value : {"0", "-3", "4294967296", "1.5", "\"8\"", "[]", "true", "{ pow2 = [9, 2] }", "99999999999999999999"})
    refused_suite(std::string(kSmall) + "batch = " + value + "\n", "bad.toml:6: ");
  refused_suite(std::string(kSmall) + "batch = 4194304\n[[point]]\nhidden = 65536\nseq_len = 4294967295\n", "bad.toml:7: batch x seq_len x hidden overflows 64 bits");
}

TEST_F(Program, SkipsACaseLargerThanMemoryBeforeItIsAllocated) {
  const Ended limit = prnn(std::string(kVerify) + "--set batch=4294967295 --json");  // 206 GB at the least
  EXPECT_EQ(limit.code, 0) << limit.err;
  EXPECT_EQ(nlohmann::json::parse(limit.out)["status"]["skipped"], 3);
  EXPECT_TRUE(read_records((folder_ / "r.jsonl").string()).rows.at(0).reason.starts_with("memory: the case needs ")) << limit.out;
  put("small.toml", std::string(kSmall) + "limits = { bytes = 9e18 }\n");
  const Ended machine = prnn("verify small.toml --device cpu --no-report --out m.jsonl --set batch=4294967295 --set hidden=65536 --set seq_len=2");
  EXPECT_EQ(machine.code, 0) << machine.err;
  EXPECT_TRUE(read_records((folder_ / "m.jsonl").string()).rows.at(0).reason.starts_with("memory: the group needs "));
}

TEST_F(Program, RefusesAnOutThatExistsOrCannotBeWritten) {
  put("r.jsonl", "precious\n");
  refused(kVerify, "--out r.jsonl: the file exists; expected a new name, or --resume");
  EXPECT_EQ(get("r.jsonl"), "precious\n");
  refused("verify small.toml --out small.toml/r.jsonl", "--out small.toml/r.jsonl: ");
  refused("verify small.toml --out /proc/r.jsonl", "--out /proc/r.jsonl: cannot be written: ");
  fs::create_directories(folder_ / "folder");
  refused("verify small.toml --out folder", "--out folder: ");
}

TEST_F(Program, ResumesWhereARunWasCut) {
  ASSERT_EQ(prnn(kVerify).code, 0);
  const std::string whole = get("r.jsonl");
  put("r.jsonl", whole.substr(0, whole.size() - 30));
  const Ended e = prnn(std::string(kVerify) + "--resume");
  EXPECT_EQ(e.code, 0) << e.err;
  const Records records = read_records((folder_ / "r.jsonl").string());
  EXPECT_EQ(records.rows.size(), 3u);
  EXPECT_EQ(get("r.jsonl").substr(0, whole.rfind("{\"record\"")), whole.substr(0, whole.rfind("{\"record\"")));
  const std::string finished = get("r.jsonl");
  EXPECT_EQ(prnn(std::string(kVerify) + "--resume").code, 0);
  EXPECT_EQ(get("r.jsonl"), finished);

  put("small.toml", std::string(kSmall) + "seed = 2\n");
  refused(std::string(kVerify) + "--resume", "--resume: r.jsonl is of another suite (");
  put("small.toml", kSmall);
  put("r.jsonl", finished.substr(0, finished.find('\n') + 1) + "{oops}\n");
  refused(std::string(kVerify) + "--resume", "r.jsonl:2: not JSON; expected one record a line");
}

// What was recorded once holds for the rows that follow: the order and the rate that floors are made from.
TEST_F(Program, ResumesWithTheOrderAndTheCopyRateOfTheRecord) {
  const std::string words = "run small.toml --device cpu --no-report --out r.jsonl ";
  ASSERT_EQ(prnn(words).code, 0);
  const std::string whole = get("r.jsonl");
  put("r.jsonl", whole.substr(0, whole.find("{\"record\":\"case\"")));
  ASSERT_EQ(prnn(words + "--resume").code, 0);
  const Records records = read_records((folder_ / "r.jsonl").string());
  ASSERT_EQ(records.rows.size(), 3u);
  for (const CaseRecord& row : records.rows) {
    EXPECT_NE(row.time_s->method.find("order seed " + std::to_string(records.head.order_seed ^ hash_text(row.group_id)) + ";"), std::string::npos) << row.time_s->method;
    EXPECT_EQ(*row.floor_s, static_cast<double>(*row.bytes_min) / *records.head.copy_bytes_per_s);
  }
  refused(std::string(kVerify) + "--resume", "--resume: r.jsonl is of another kind of run (timed); expected verified only");
}

TEST_F(Program, WritesBesideItselfAndNotWhereItIsCalledFrom) {
  for (const char* part : {"tree/build/any", "tree/suites"}) fs::create_directories(folder_ / part);
  fs::copy_file(exe_, folder_ / "tree/build/any/prnn");
  put("tree/suites/quick.toml", kSmall);
  exe_ = folder_ / "tree/build/any/prnn";
  const Ended e = prnn("verify small.toml --device cpu --no-report --json", "env -u PRNN_CACHE");
  EXPECT_EQ(e.code, 0) << e.err;
  EXPECT_EQ((folder_ / nlohmann::json::parse(e.out)["record"].get<std::string>()).parent_path(), folder_ / "tree/build/out");
  EXPECT_FALSE(fs::is_empty(folder_ / "tree/build/reference"));
  EXPECT_FALSE(fs::exists(folder_ / "build"));
  EXPECT_EQ(nlohmann::json::parse(prnn("list suites --json").out)[0]["title"], "t");
  EXPECT_EQ(nlohmann::json::parse(prnn("list claims --json").out), nlohmann::json::array());
  const Ended bench = prnn("bench --device cpu --benchmark_list_tests");
  EXPECT_EQ(bench.code, 0) << bench.err;
  EXPECT_EQ(std::count(bench.out.begin(), bench.out.end(), '\n'), 3) << bench.out;
}

TEST_F(Program, RefusesACacheThatCannotBeWrittenBeforeAnythingIsBegun) {
  const Ended e = prnn(kVerify, "PRNN_CACHE=/proc/no");
  EXPECT_EQ(e.code, 64) << e.err;
  EXPECT_TRUE(e.err.starts_with("/proc/no: cannot be written; expected a directory")) << e.err;
  EXPECT_FALSE(fs::exists(folder_ / "r.jsonl"));
}

TEST_F(Program, RecordsWhereTheRegimeTextComesFrom) {
  const Ended e = prnn(std::string(kVerify) + "--set regime=text");
  EXPECT_EQ(e.code, 0) << e.err;
  const auto installed = read_records((folder_ / "r.jsonl").string()).head.text;
  EXPECT_EQ(installed.at("file"), kInstalledText.file);
  EXPECT_EQ(installed.at("package"), kInstalledText.package);
  EXPECT_EQ(installed.at("bytes"), std::to_string(fs::file_size(kInstalledText.file)));
  EXPECT_EQ(installed.at("sha256").size(), 64u);
  put("own.txt", "abc");
  put("small.toml", std::string(kSmall) + "regime = \"text\"\ntext_file = \"own.txt\"\n");
  EXPECT_EQ(prnn("verify small.toml --device cpu --no-report --out own.jsonl").code, 0);
  const auto own = read_records((folder_ / "own.jsonl").string()).head.text;
  EXPECT_EQ(own.at("package"), "none");
  EXPECT_EQ(own.at("sha256"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");  // FIPS 180-2, appendix B.1
  put("own.txt", "");
  refused("verify small.toml --device cpu --out none.jsonl", "small.toml:7: text_file 'own.txt' is empty");
  fs::remove(folder_ / "own.txt");
  refused("verify small.toml --device cpu --out none.jsonl", "small.toml:7: text_file 'own.txt' cannot be read");
}

TEST_F(Program, NamesTheFlagToContinueWithAfterAFullDisk) {
  const Ended e = prnn(kVerify, "ulimit -f 4;");  // blocks of 512 bytes: the first rows fit, the last do not
  EXPECT_EQ(e.code, 5) << e.err;
  EXPECT_NE(e.err.find("r.jsonl: File too large; the rows written before are whole, --resume continues\n"), std::string::npos) << e.err;
  const Records records = read_records((folder_ / "r.jsonl").string());
  EXPECT_LT(records.rows.size(), 3u);
  EXPECT_EQ(std::count(e.out.begin(), e.out.end(), '\n'), std::int64_t(records.rows.size()) + 3) << e.out;  // title, these, the one without room, record
  EXPECT_EQ(records.whole_bytes, std::int64_t(get("r.jsonl").size()));
  EXPECT_EQ(prnn(std::string(kVerify) + "--resume").code, 0);
  EXPECT_EQ(read_records((folder_ / "r.jsonl").string()).rows.size(), 3u);
}

TEST_F(Program, CountsWrongNumbersBeforeAFullDisk) {
  put("small.toml", std::string(kSmall) + "expect = \"wrong\"\n");
  EXPECT_EQ(prnn(kVerify, "ulimit -f 4;").code, 2);
}

TEST_F(Program, SaysThatThereIsNoGpu) {
  if (fs::exists("/dev/nvidiactl")) GTEST_SKIP() << "this machine has a GPU";
  refused("verify small.toml --device cuda", "--device cuda: ", "expected auto, cpu or emulated");
  refused("witness --device cuda '" PRNN_SOURCE_DIR "/reference/testdata/witness/elman_diag-base.json'", "--device cuda: ");
  EXPECT_EQ(prnn("verify small.toml --device auto --no-report --out auto.jsonl").code, 0);
}

TEST_F(Program, ExitsWithTheCodeOfTheRows) {
  const std::string base = "title = \"t\"\ncells = [\"gru_diag\"]\nsolvers = [\"newton_fused\"]\nseq_len = 300\niteration_limit = 1\n";
  put("small.toml", base);
  EXPECT_EQ(prnn(std::string(kVerify) + "--out wrong.jsonl").code, 64);  // --out twice
  EXPECT_EQ(prnn("verify small.toml --device cpu --no-report --out wrong.jsonl").code, 2);
  put("small.toml", base + "expect = \"wrong\"\n");
  EXPECT_EQ(prnn("verify small.toml --device cpu --no-report --out expected.jsonl").code, 0);
  put("small.toml", base + "expect = \"wrong\"\n");
  EXPECT_EQ(prnn("verify small.toml --device cpu --no-report --out found_right.jsonl --set iteration_limit=adaptive").code, 2);
}

// --- witness -------------------------------------------------------------------------------------------------------------

TEST_F(Program, HoldsWitnessesAgainstReferenceAndSolvers) {
  const std::string file = PRNN_SOURCE_DIR "/reference/testdata/witness/gru_diag-base.json";
  const Ended e = prnn("witness --device cpu --json '" + file + "'");
  EXPECT_EQ(e.code, 0) << e.out << e.err;
  std::istringstream out(e.out);
  std::map<std::string, int> rows;
  for (std::string line; std::getline(out, line);) {
    const auto row = nlohmann::json::parse(line);
    if (row["solver"] == "reference") {
      ++rows["reference"];
      continue;
    }
    ++rows[row["solver"].get<std::string>() + " " + row["pass"].get<std::string>()];
    if (row["status"] != "ok") continue;
    std::vector<const char*> ratios{"test_ratio"};
    if (row["pass"] == "backward") ratios.insert(ratios.end(), {"test_ratio_du", "test_ratio_da", "test_ratio_dh0"});
    for (const char* ratio : ratios) {
      EXPECT_GT(row[ratio], 0) << line;
      EXPECT_LT(row[ratio], 16) << line;
    }
  }
  EXPECT_EQ(rows["reference"], 1);
  EXPECT_EQ(rows["seq_fused forward"], 2);
  EXPECT_EQ(rows["newton_fused forward"], 2);
  EXPECT_EQ(rows["seq_stepwise backward"], 2);
  EXPECT_EQ(rows["seq_fused backward"], 2);
  EXPECT_EQ(prnn("witness --device cpu --solver seq_fused '" + file + "'").out.find("newton"), std::string::npos);
  refused("witness --solver '[' '" + file + "'", "--solver [: bad regular expression");
  refused("witness --solver nosuch '" + file + "'", "--solver nosuch: matches none of");
  refused("witness none.json", "none.json: ");
}

TEST_F(Program, FindsAWitnessThatIsOffByAThousandth) {
  auto witness = nlohmann::json::parse(content(PRNN_SOURCE_DIR "/reference/testdata/witness/elman_diag-base.json"));
  auto& state = witness["channels"][1]["states"][5][0];
  put("same.json", witness.dump());
  EXPECT_EQ(prnn("witness --device cpu same.json").code, 0);
  state = std::to_string(std::stod(state.get<std::string>()) * 1.001);
  put("off.json", witness.dump());
  const Ended e = prnn("witness --device cpu off.json");
  EXPECT_EQ(e.code, 2) << e.out << e.err;
}

TEST_F(Program, FindsAWitnessWithOneGradientOff) {
  const auto witness = nlohmann::json::parse(content(PRNN_SOURCE_DIR "/reference/testdata/witness/elman_diag-base.json"));
  const std::pair<const char*, std::string> gradients[] = {
      {"/channels/1/grad_inputs/2/0", "test_ratio_du"}, {"/channels/2/grad_weights/0", "test_ratio_da"}, {"/channels/0/grad_initial_state/0", "test_ratio_dh0"}};
  for (const auto& [where, ratio] : gradients) {
    auto off = witness;
    auto& gradient = off[nlohmann::json::json_pointer(where)];
    gradient = std::to_string(std::stod(gradient.get<std::string>()) * 1.01);
    put("off.json", off.dump());
    const Ended e = prnn("witness --device cpu --json --solver seq_fused off.json");
    EXPECT_EQ(e.code, 2) << e.out << e.err;
    std::istringstream out(e.out);
    for (std::string line; std::getline(out, line);) {
      const auto row = nlohmann::json::parse(line);
      EXPECT_EQ(row["status"], row["pass"] == "forward" ? "ok" : "wrong") << line;  // the reference has no pass
      if (row["pass"] != "backward") continue;
      for (const char* any : {"test_ratio_du", "test_ratio_da", "test_ratio_dh0"}) EXPECT_EQ(row[any] > 16, any == ratio) << line;
    }
  }
}

TEST_F(Program, RefusesAWitnessWithMissingOrNonNumericEntries) {
  const auto whole = nlohmann::json::parse(content(PRNN_SOURCE_DIR "/reference/testdata/witness/elman_diag-base.json"));
  const auto refused_witness = [&](const nlohmann::json& witness) {
    put("bad.json", witness.dump());
    refused("witness --device cpu bad.json", "bad.json", ": ");
  };
  for (const char* key : {"cell", "seq_len", "state_steps", "channels"}) {
    auto witness = whole;
    witness.erase(key);
    refused_witness(witness);
  }
  auto witness = whole;
  witness["channels"][0]["inputs"][3][0] = "zero point one";
  refused_witness(witness);
  witness = whole;
  witness["channels"][0]["states"][3][0] = nullptr;
  refused_witness(witness);
  witness = whole;
  witness["channels"][0]["inputs"].erase(3);
  refused_witness(witness);
  witness = whole;
  witness["cell"] = "gru_dag";
  refused_witness(witness);
  put("bad.json", "{\"cell\":");
  refused("witness --device cpu bad.json", "bad.json");
}

// --- the other commands ----------------------------------------------------------------------------------------------------

TEST_F(Program, ListsWhatExistsFromTheRegistries) {
  const auto list = [&](const std::string& what) { return nlohmann::json::parse(prnn("list " + what + " --json").out); };
  EXPECT_EQ(list("cells").size(), find_op("recurrence").cells().size() + find_op("reduction").cells().size());
  EXPECT_EQ(list("solvers").size(), solver_names().size());
  EXPECT_EQ(list("devices").size(), machines().size());
  for (const auto& device : list("devices")) EXPECT_EQ(device.contains("not_emulated"), device["name"] == "emulated");
  EXPECT_NE(prnn("list devices").out.find("not_emulated: memory order"), std::string::npos);
  EXPECT_EQ(list("claims").size(), 16u);
  for (const auto& claim : list("claims")) EXPECT_EQ(claim.contains("suites"), !claim.contains("not_testable_here")) << claim;
  EXPECT_EQ(list("claims")[0]["suites"], nlohmann::json::array({"suites/paper/fig1.toml"}));
  EXPECT_EQ(list("claims")[15]["id"], "C16");
  EXPECT_EQ(list("").size(), 5u);
  for (const auto& row : list("solvers")) {
    if (row["name"] != "newton_fused") continue;
    EXPECT_EQ(row["policy"]["cpu forward"], (nlohmann::json{{"steps_a_tile", "1 to 1048576"}}));
    bool on_gpu = false;  // devices with the same space share an entry
    for (const auto& [place, space] : row["policy"].items()) {
      if (place.find("emulated") == place.npos) continue;
      on_gpu = true;
      EXPECT_EQ(space["steps_a_thread"], "1 to 8, compiled when first used");
      EXPECT_EQ(space["threads"], "a multiple of 32 from 32 to 1024 | a multiple of 32 from 32 to 512") << "by cell and storage";
    }
    EXPECT_TRUE(on_gpu);
  }
  const auto kernels = list("kernels");  // on a GPU as many as there are, else one row that says what is missing
  ASSERT_FALSE(kernels.empty());
  for (const auto& row : kernels) EXPECT_NE(row.contains("registers"), row.contains("why_not")) << row;
  const Ended e = prnn("list solvers");
  EXPECT_EQ(e.code, 0);
  for (const std::string& name : solver_names()) EXPECT_NE(e.out.find(name), std::string::npos) << name;
}

TEST_F(Program, SaysInOneLineWhyKernelsCannotBeCompiledHere) {
  const auto compiler = [&](const std::string& library) { return nlohmann::json::parse(prnn("info --json", "PRNN_NVRTC=" + library).out)["kernel_compiler"].get<std::string>(); };
  EXPECT_EQ(compiler("/nowhere/libnvrtc.so").rfind("PRNN_NVRTC: /nowhere/libnvrtc.so", 0), 0u) << compiler("/nowhere/libnvrtc.so");
  EXPECT_EQ(compiler("libm.so.6"), "NVRTC has no nvrtcVersion");
}

TEST_F(Program, RunsAPolicyThatIsNotCompiledOnlyWhereItCanBe) {
  put("policy.toml", "title = \"t\"\ncells = \"gru_diag\"\nsolvers = \"newton_fused\"\nseq_len = 20\npolicy = { steps_a_thread = [2, 3] }\n");
  EXPECT_EQ(prnn("verify policy.toml --device emulated --no-report --out policy.jsonl").code, 0);
  std::istringstream rows(get("policy.jsonl"));
  std::string line, statuses;
  while (std::getline(rows, line)) {
    const auto row = nlohmann::json::parse(line);
    if (row["record"] != "case") continue;
    statuses += row["status"].get<std::string>() + " ";
    if (row["status"] != "skipped") continue;
    const std::string expected = "newton_fused_kernel<prnn::GruDiag, float, prnn::RecurrenceTensors<float>, 3>, and emulated has no compiler";
    EXPECT_NE(row["reason"].get<std::string>().find(expected), std::string::npos) << row["reason"];
  }
  EXPECT_EQ(statuses, "ok skipped ");
}

TEST_F(Program, TellsAboutItselfAndTheMachine) {
  const auto info = nlohmann::json::parse(prnn("info --json").out);
  for (const char* key : {"commit", "dirty", "build", "machine", "gpu", "device", "clock_mhz", "fingerprint", "memory_free_bytes", "cache", "kernel_compiler"})
    EXPECT_TRUE(info.contains(key)) << key;
  EXPECT_EQ(prnn("info").code, 0);
  EXPECT_EQ(prnn("--help").code, 0);
  EXPECT_EQ(prnn("run --help").code, 0);
}

TEST_F(Program, FillsTheReferenceCacheWithoutRunningAnything) {
  const Ended e = prnn("reference small.toml");
  EXPECT_EQ(e.code, 0) << e.err;
  EXPECT_FALSE(fs::is_empty(folder_ / "cache"));
  EXPECT_FALSE(fs::exists(folder_ / "build"));
  EXPECT_NE(prnn("reference small.toml").out.find(" 0 of them computed"), std::string::npos);
  const auto again = nlohmann::json::parse(prnn("reference small.toml --json").out);
  EXPECT_EQ(again["computed"], 0);
  EXPECT_EQ(again["cache"], "cache");
  put("large.toml", std::string(kSmall) + "limits = { bytes = 1 }\n");
  EXPECT_EQ(nlohmann::json::parse(prnn("reference large.toml --json").out)["channels"], 0);
  refused("reference none.toml", "none.toml: no such file");
}

TEST_F(Program, BenchesWithTheFlagsOfTheLibrary) {
  const Ended e = prnn("bench small.toml --device cpu --benchmark_filter=L3/ --benchmark_format=json");
  EXPECT_EQ(e.code, 0) << e.err;
  EXPECT_EQ(nlohmann::json::parse(e.out)["benchmarks"].size(), 1u);
  refused("bench small.toml --benchmark_format=foo", "prnn bench: --benchmark_format=foo: expected console, json or csv");
  refused("bench none.toml", "none.toml: no such file");
}

TEST_F(Program, RefusesToReportOnWhatIsNoRecord) {
  put("no.jsonl", "{}\n");
  refused("report no.jsonl", "no.jsonl");
  refused("report none.jsonl", "none.jsonl");
}

}  // namespace
}  // namespace prnn
