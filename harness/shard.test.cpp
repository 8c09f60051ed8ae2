// shard.test.cpp: dealing a plan to shards, and joining their records: what is whole becomes one record, what is not is refused in one line.
#include "harness/shard.hpp"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "harness/program_test.hpp"
#include "harness/record.hpp"

namespace prnn {
namespace {

namespace fs = std::filesystem;

std::vector<Group> plan_of(const std::vector<std::int64_t>& lengths) {
  std::vector<Group> plan;
  for (const std::int64_t length : lengths) {
    Group group{"g" + std::to_string(plan.size()), {}};
    for (const char* solver : {"a", "b"}) {
      Case c;
      c.problem.seq_len = length;
      c.solver = solver;
      c.device = "cpu";
      c.case_id = group.group_id + solver;
      group.cases.push_back(c);
    }
    plan.push_back(group);
  }
  return plan;
}

std::vector<std::string> dealt(const std::vector<Group>& plan, std::int64_t index, std::int64_t count) {
  std::vector<std::string> ids;
  for (const Group& group : groups_of(deal(plan, index, count), plan)) ids.push_back(group.group_id);
  return ids;
}

TEST(Deal, GivesEachGroupToOneShardInTheOrderOfThePlan) {
  const auto plan = plan_of({5, 1'000'000, 7, 9, 1'000'000, 3, 2});
  for (const std::int64_t count : {1, 2, 3, 7, 9}) {
    std::vector<std::string> all;
    for (std::int64_t index = 1; index <= count; ++index) {
      const auto mine = dealt(plan, index, count);
      EXPECT_TRUE(std::is_sorted(mine.begin(), mine.end()));
      all.insert(all.end(), mine.begin(), mine.end());
    }
    std::sort(all.begin(), all.end());
    EXPECT_EQ(all, dealt(plan, 1, 1)) << count;
  }
}

TEST(Deal, TheLongestGroupsGoApart) {
  // Twice 160 s and five times about 0.6 s: a shard has one of the long ones, and the short ones are shared.
  const auto plan = plan_of({5, 1'000'000, 7, 20, 1'000'000, 3, 2});
  EXPECT_EQ(dealt(plan, 1, 2), (std::vector<std::string>{"g1", "g3", "g5"}));
  EXPECT_EQ(dealt(plan, 2, 2), (std::vector<std::string>{"g0", "g2", "g4", "g6"}));
  EXPECT_EQ(dealt(plan, 3, 3).size(), 5u);  // all that is short, beside two shards with a long one each
}

TEST(Deal, WhatDoesNotRunTakesNoTimeAndWhatIsTooLargeHereMayRunElsewhere) {
  auto plan = plan_of({100, 100, 100, 100});
  for (Case& c : plan[0].cases) c.skip = undefined_combination("x");
  for (Case& c : plan[1].cases) c.skip = undefined_combination("x");
  EXPECT_EQ(dealt(plan, 1, 2), (std::vector<std::string>{"g0", "g2"}));  // one that runs each; dealt by the steps, they would be g0 and g2 too ...
  auto mixed = plan_of({100, 100, 100});
  for (Case& c : mixed[1].cases) c.skip = undefined_combination("x");
  EXPECT_EQ(dealt(mixed, 1, 2), (std::vector<std::string>{"g0", "g1"}));  // ... but not here, where g2 would come first
  for (Case& c : mixed[1].cases) c.skip = too_large("x");
  EXPECT_EQ(dealt(mixed, 1, 2), (std::vector<std::string>{"g0", "g2"}));
}

TEST(Deal, BytesTakeTimeToo) {
  auto plan = plan_of({1, 1, 1});
  for (Case& c : plan[1].cases) c.set_bytes = 10'000'000'000;  // 40 s on a CPU
  EXPECT_EQ(dealt(plan, 1, 2), (std::vector<std::string>{"g1"}));
  // On a GPU 0.2 s, and 10 000 steps take 0.8 s.
  plan = plan_of({10'000, 1, 1});
  for (Case& c : plan[1].cases) c.set_bytes = 10'000'000'000, c.device = "cuda";
  EXPECT_EQ(dealt(plan, 1, 2), (std::vector<std::string>{"g0"}));
}

TEST(Deal, ThePlanIsKnownByItsCases) {
  auto plan = plan_of({1, 2});
  const Shard before = deal(plan, 1, 2);
  EXPECT_EQ(before.plan_groups, 2);
  ASSERT_EQ(before.groups.size(), 1u);
  EXPECT_EQ(before.groups[0].position, 1);
  EXPECT_EQ(before.groups[0].group_id, "g1");
  EXPECT_EQ(before.groups[0].cases, 2);
  EXPECT_EQ(deal(plan, 2, 2).plan_sha256, before.plan_sha256);
  plan[0].cases[1].case_id = "another";
  EXPECT_NE(deal(plan, 1, 2).plan_sha256, before.plan_sha256);
}

TEST(Deal, ReadsShards) {
  using Pair = std::pair<std::int64_t, std::int64_t>;
  EXPECT_EQ(parse_shard("1/1"), Pair(1, 1));
  EXPECT_EQ(parse_shard("2/8"), Pair(2, 8));
  EXPECT_EQ(parse_shard("8/8"), Pair(8, 8));
  for (const char* bad : {"", "1", "/", "0/2", "3/2", "1/", "/2", "a/b", "1/2x", "1/2/3", "-1/2", "1/1000001"}) EXPECT_THROW(parse_shard(bad), BadInput) << bad;
}

TEST(Deal, AShardIsReadAsItWasWritten) {
  const Shard s = deal(plan_of({1, 2, 3}), 2, 2);
  EXPECT_EQ(to_json(shard(to_json(s))).dump(), to_json(s).dump());
  const auto broken = [&](const char* field, const Json& value) {
    Json json = to_json(s);
    json[field] = value;
    EXPECT_THROW(shard(json), BadInput) << field;
  };
  broken("index", 3), broken("index", 0), broken("index", "2"), broken("index", 1.5), broken("count", 1e300), broken("count", -1), broken("index", ~std::uint64_t{0}),
      broken("groups", 1), broken("plan_groups", 1);
  broken("groups", Json::array({Json{{"position", -1}, {"group_id", "g"}, {"cases", 1}}}));
  broken("groups", Json::array({Json{{"position", 0}, {"group_id", "g"}, {"cases", 0}}}));
}

class Merge : public Program {
 protected:
  static constexpr const char* kSuite = "title = \"t\"\ncells = [\"elman_diag\"]\nsolvers = [\"seq_fused\", \"newton_fused\"]\nhidden = 3\nseq_len = [2, 3, 4, 5]\n";

  void SetUp() override {
    Program::SetUp();
    put("suite.toml", kSuite);
  }
  void run_shards(const std::string& words = "") {
    for (const char* i : {"1", "2", "3"}) ASSERT_EQ(prnn(fmt("verify suite.toml --device cpu --no-report --shard {}/3 --out s{}.jsonl ", i) + words).code, 0);
  }
  static std::string fmt(std::string text, const std::string& i) {
    for (std::size_t at; (at = text.find("{}")) != std::string::npos;) text.replace(at, 2, i);
    return text;
  }
  /// Lines of a record, the head first.
  std::vector<std::string> lines_of(const std::string& name) {
    std::istringstream stream(get(name));
    std::vector<std::string> found;
    for (std::string line; std::getline(stream, line);) found.push_back(line);
    return found;
  }
  void put_lines(const std::string& name, const std::vector<std::string>& all) {
    std::string text;
    for (const std::string& line : all) text += line + "\n";
    put(name, text);
  }
  /// s2.jsonl with one field of its head replaced is refused, and nothing is written.
  void refuses_head(const std::function<void(Json&)>& change, const std::string& part) {
    auto all = lines_of("s2.jsonl");
    Json head = Json::parse(all[0]);
    change(head);
    all[0] = head.dump();
    put_lines("x.jsonl", all);
    refused("merge s1.jsonl x.jsonl s3.jsonl --out g.jsonl", "x.jsonl:", part);
    EXPECT_FALSE(fs::exists(folder_ / "g.jsonl"));
  }
  void misses(const std::string& files, const std::string& part) {
    const Ended e = prnn("merge " + files + " --out g.jsonl");
    EXPECT_EQ(e.code, 5) << e.err;
    EXPECT_NE(e.err.find(part), std::string::npos) << e.err;
    EXPECT_EQ(std::count(e.err.begin(), e.err.end(), '\n'), 1) << e.err;
    EXPECT_FALSE(fs::exists(folder_ / "g.jsonl"));
  }
};

TEST_F(Merge, IsAsIfRunInOne) {
  run_shards();
  ASSERT_EQ(prnn("verify suite.toml --device cpu --no-report --out whole.jsonl").code, 0);
  const Ended e = prnn("merge s3.jsonl s1.jsonl s2.jsonl --out g.jsonl --json");  // in any order
  EXPECT_EQ(e.code, 0) << e.err;
  EXPECT_EQ(nlohmann::json::parse(e.out)["rows"], 8);
  const auto merged = lines_of("g.jsonl"), whole = lines_of("whole.jsonl");
  EXPECT_EQ(std::vector(merged.begin() + 1, merged.end()), std::vector(whole.begin() + 1, whole.end()));  // verified rows hold no times
  const Records records = read_records((folder_ / "g.jsonl").string());
  EXPECT_FALSE(records.head.shard);
  EXPECT_EQ(records.head.suite_text, kSuite);
  const Json from = Json::parse(merged[0])["merged_from"];
  ASSERT_EQ(from.size(), 3u);
  for (int i = 0; i < 3; ++i) {
    const Records part = read_records((folder_ / fmt("s{}.jsonl", std::to_string(i + 1))).string());
    EXPECT_EQ(from[i]["file"], fmt("s{}.jsonl", std::to_string(i + 1)));
    EXPECT_EQ(from[i]["shard"]["index"], i + 1);
    EXPECT_EQ(from[i]["order_seed"], part.head.order_seed);
    EXPECT_FALSE(from[i]["suite"].contains("text"));
  }
  refused("merge s1.jsonl s2.jsonl s3.jsonl --out g.jsonl", "--out g.jsonl: the file exists");
  EXPECT_EQ(prnn("report g.jsonl --out page").code, 0);
}

TEST_F(Merge, RefusesHoles) {
  run_shards();
  misses("s1.jsonl s3.jsonl", "shard 2/3 is missing");
  misses("s1.jsonl s2.jsonl", "shard 3/3 is missing");
  misses("s2.jsonl s3.jsonl", "shard 1/3 is missing");
  auto all = lines_of("s2.jsonl");
  put_lines("x.jsonl", {all.begin(), all.end() - 1});
  misses("s1.jsonl x.jsonl s3.jsonl", "1 of the 2 cases of");
  put_lines("x.jsonl", {all[0]});
  misses("s1.jsonl x.jsonl s3.jsonl", "2 of the 2 cases of");
  Json head = Json::parse(all[0]);  // one that claims to have been given less
  head["shard"]["groups"] = Json::array();
  put_lines("x.jsonl", {head.dump()});
  misses("s1.jsonl x.jsonl s3.jsonl", "1 of 4 groups are in no shard");
}

TEST_F(Merge, RefusesDuplicates) {
  run_shards();
  refused("merge s1.jsonl s2.jsonl s2.jsonl s3.jsonl --out g.jsonl", "s2.jsonl: shard 2/3 is given twice");
  auto all = lines_of("s2.jsonl");
  all.push_back(all.back());
  put_lines("x.jsonl", all);
  refused("merge s1.jsonl x.jsonl s3.jsonl --out g.jsonl", "x.jsonl: recurrence/", "is there twice");
  auto other = lines_of("s1.jsonl");
  all = lines_of("s2.jsonl");
  all.insert(all.end(), other.begin() + 1, other.end());
  put_lines("x.jsonl", all);
  refused("merge s1.jsonl x.jsonl s3.jsonl --out g.jsonl", "x.jsonl: recurrence/", "is not of this shard");
  Json head = Json::parse(all[0]);
  const Json own = head["shard"]["groups"];
  head["shard"]["groups"].push_back(Json::parse(other[0])["shard"]["groups"][0]);
  all[0] = head.dump();
  put_lines("x.jsonl", all);
  refused("merge s1.jsonl x.jsonl s3.jsonl --out g.jsonl", "x.jsonl: a group of it is in another shard too");
  head["shard"]["groups"] = own;
  head["shard"]["groups"].push_back(own[0]);
  all[0] = head.dump();
  put_lines("x.jsonl", all);
  refused("merge s1.jsonl x.jsonl s3.jsonl --out g.jsonl", "x.jsonl: group recurrence/", "is in another shard too");
  head["shard"]["groups"] = own;
  head["shard"]["groups"][0]["cases"] = 1;
  all = lines_of("s2.jsonl");
  all[0] = head.dump();
  put_lines("x.jsonl", all);
  refused("merge s1.jsonl x.jsonl s3.jsonl --out g.jsonl", "x.jsonl: group recurrence/", "has 2 rows; expected 1");
}

TEST_F(Merge, RefusesWhatIsOfAnotherRun) {
  run_shards();
  refuses_head([](Json& head) { head["suite"]["sha256"] = "0"; }, "is of another suite (0)");
  refuses_head([](Json& head) { head["shard"]["plan_sha256"] = "0"; }, "is of another plan (0)");
  refuses_head([](Json& head) { head["shard"]["count"] = 4; }, "is of another number of shards (4)");
  refuses_head([](Json& head) { head["shard"]["plan_groups"] = 5; }, "is of another number of groups (5)");
  refuses_head([](Json& head) { head["commit"] = "0"; }, "is of another commit (0)");
  refuses_head([](Json& head) { head["fingerprint"] = "0"; }, "is of another machine or build (0)");
  refuses_head([](Json& head) { head["cell"] = Json{{"path", "x"}, {"sha256", "12"}, {"text", ""}}; }, "is of another cell (12)");
  refuses_head([](Json& head) { head["text"] = Json{{"file", "x"}}; }, "is of another text");
  refuses_head([](Json& head) { head["copy_bytes_per_s"] = 1e9; }, "is of another kind of run (timed)");
  refuses_head([](Json& head) { head["inject"] = "slowdown=1"; }, "is of another injected damage (slowdown=1)");
  refuses_head([](Json& head) { head["dirty"] = !head["dirty"].get<bool>(); }, "is of a tree with");
  refuses_head([](Json& head) { head["shard"] = nullptr; }, "is the record of a whole plan");
  refuses_head([](Json& head) { head["shard"]["index"] = 9; }, "1: field 'shard' has an unknown value");
  put("x.jsonl", "");
  refused("merge s1.jsonl x.jsonl --out g.jsonl", "x.jsonl: is empty");
  refused("merge s1.jsonl none.jsonl --out g.jsonl", "none.jsonl: no such file");
  refused("merge s1.jsonl", "prnn merge: ");
  refused("merge --out g.jsonl", "prnn merge: ");
}

TEST_F(Merge, TookTurnsWhereAllShardsDidInOneSessionOnOneSide) {
  run_shards();
  const auto merged_session = [&](const std::string& session, int side) {
    for (const std::string i : {"1", "2", "3"}) {
      auto all = lines_of("s" + i + ".jsonl");
      Json head = Json::parse(all[0]);
      head["interleaved_with"] = Json{{"session", i == "2" ? session : "s"}, {"side", i == "2" ? side : 0}, {"program", "p"}, {"commit", "c"}};
      all[0] = head.dump();
      put_lines("t" + i + ".jsonl", all);
    }
    fs::remove(folder_ / "g.jsonl");
    EXPECT_EQ(prnn("merge t1.jsonl t2.jsonl t3.jsonl --out g.jsonl").code, 0);
    return Json::parse(lines_of("g.jsonl")[0])["interleaved_with"];
  };
  EXPECT_EQ(merged_session("s", 0)["session"], "s");
  EXPECT_TRUE(merged_session("t", 0).is_null());
  EXPECT_TRUE(merged_session("s", 1).is_null());
}

TEST_F(Merge, KeepsTheExitCodeOfTheRows) {
  put("suite.toml", std::string(kSuite) + "regime = \"expansive\"\niteration_limit = 1\nbatch = 4\n");  // one iteration is not enough at any of these lengths
  std::string files;
  for (const char* i : {"1", "2"}) {
    const Ended e = prnn(fmt("verify suite.toml --device cpu --no-report --only newton --shard {}/2 --out s{}.jsonl", i));
    EXPECT_EQ(e.code, 2) << e.err;
    files += fmt("s{}.jsonl ", i);
  }
  EXPECT_EQ(prnn("merge " + files + "--out g.jsonl").code, 2);
}

TEST_F(Merge, AShardIsContinuedAsThatShard) {
  run_shards();
  refused("verify suite.toml --device cpu --no-report --shard 1/3 --out s2.jsonl --resume", "--resume: s2.jsonl is of another shard (2/3 of plan");
  refused("verify suite.toml --device cpu --no-report --out s2.jsonl --resume", "--resume: s2.jsonl is of another shard (2/3 of plan");
  const auto all = lines_of("s2.jsonl");
  put_lines("s2.jsonl", {all[0]});
  EXPECT_EQ(prnn("verify suite.toml --device cpu --no-report --shard 2/3 --out s2.jsonl --resume").code, 0);
  EXPECT_EQ(prnn("merge s1.jsonl s2.jsonl s3.jsonl --out g.jsonl").code, 0);
}

TEST_F(Merge, AKilledMergeLeavesNothingOrAWholeRecord) {
  run_shards();
  for (int delay_ms = 0; delay_ms < 40; delay_ms += 8) {
    const pid_t child = start("merge s1.jsonl s2.jsonl s3.jsonl --out g.jsonl");
    std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
    kill(child, SIGKILL);
    wait(child);
    if (!fs::exists(folder_ / "g.jsonl")) continue;
    EXPECT_EQ(read_records((folder_ / "g.jsonl").string()).rows.size(), 8u);
    fs::remove(folder_ / "g.jsonl");
  }
  EXPECT_EQ(prnn("merge s1.jsonl s2.jsonl s3.jsonl --out g.jsonl").code, 0);
}

}  // namespace
}  // namespace prnn
