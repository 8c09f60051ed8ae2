// selftest.test.cpp: the list of seeded faults against the sources, and who is said to have caught what. That each is caught is ctest's label faults.
#include "harness/selftest.hpp"

#include <gtest/gtest.h>
#include <unistd.h>
#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "kernels/fault.hpp"

namespace prnn {
namespace {

namespace fs = std::filesystem;

#define PRNN_TEXT(expression) PRNN_TEXT_OF(expression)
#define PRNN_TEXT_OF(expression) #expression

TEST(AFault, IsTheRightExpressionInAnOrdinaryBuild) {
  static_assert(PRNN_FAULT(999, 2 + 1, 2 - 1) * 2 == 6);
  EXPECT_STREQ(PRNN_TEXT(PRNN_FAULT(999, right(a, b), wrong)), "(right(a, b))");
}

TEST(SeededFaults, StandInTheSourcesOnceEach) {
  auto places = fault_places(PRNN_SOURCE_DIR);
  int last = 0;
  for (const Fault& fault : faults()) {
    EXPECT_GT(fault.id, last) << "by id, each once";
    last = fault.id;
    EXPECT_EQ(places[fault.id].size(), 1u) << fault.id << ": " << fault.what;
  }
  for (const auto& [id, at] : places) {
    EXPECT_TRUE(std::any_of(faults().begin(), faults().end(), [id = id](const Fault& fault) { return fault.id == id; })) << at.front() << ": fault " << id << " is not in the list";
  }
}

TEST(SeededFaults, AreSixtyOverEveryLayer) {
  std::set<std::string> layers;
  for (const Fault& fault : faults()) layers.insert(fault.layer);
  EXPECT_GE(faults().size(), 60u);
  for (const char* layer :
       {"recurrence sign", "gate order",         "Jacobian term",        "evaluation point",    "scan operand order",  "neutral element", "tile edge",
        "carry",           "boundary unchecked", "NaN dropped by a max", "missing barrier",     "stale shared memory", "32-bit offset",   "storage rounded twice",
        "h0 ignored",      "backward transpose", "reduction order",      "reference quantised", "statistics",          "pairing",         "record writing"})
    EXPECT_TRUE(layers.contains(layer)) << layer;
}

TEST(SeededFaults, HaveAFewGeneralChecks) {
  std::set<std::string> names;
  for (const Check& check : checks()) {
    EXPECT_TRUE(names.insert(check.name).second) << check.name;
    EXPECT_TRUE(std::string_view(check.program) == "prnn_faults" || std::string_view(check.program) == "prnn_faults_tests") << check.name;
  }
  EXPECT_GE(names.size(), 10u);
  EXPECT_LE(names.size(), 25u);
  names.insert("");
  for (const Fault& fault : faults()) EXPECT_TRUE(names.contains(fault.check)) << fault.id << ": no check is called " << fault.check;
}

TEST(FaultPlaces, AreFilesAndLines) {
  const fs::path root = fs::temp_directory_path() / ("prnn-fault-places-" + std::to_string(getpid()));
  for (const char* folder : {"kernels/cells", "reference", "harness", "plots"}) fs::create_directories(root / folder);
  std::ofstream(root / "kernels/cells/a.hpp") << "// PRNN_FAULT(id, right, wrong)\nx = PRNN_FAULT(7, a, b) + PRNN_FAULT(12, c, d);\n";
  std::ofstream(root / "reference/b.cpp") << "\n\nPRNN_FAULT(7, a, b);\n";
  std::ofstream(root / "reference/b.test.cpp") << "PRNN_FAULT(7, a, b)\n";
  std::ofstream(root / "harness/c.md") << "PRNN_FAULT(8, a, b)\n";
  std::ofstream(root / "plots/d.cpp") << "PRNN_FAULT(9, a, b)\n";
  const auto places = fault_places(root);
  fs::remove_all(root);
  const std::map<int, std::vector<std::string>> expected{{7, {"kernels/cells/a.hpp:2", "reference/b.cpp:3"}}, {12, {"kernels/cells/a.hpp:2"}}};
  EXPECT_EQ(places, expected);
}

TEST(Patterns, FitATestEach) {
  const std::string listing = "Running main()\nDraws.\n  AreNormal\nOffsets/0.  # TypeParam = Gru\n  AreRight\nAll/Every.\n  Is/cpu  # GetParam() = cpu\n";
  const auto missing = [&](const char* program, const char* patterns) { return pattern_without_test({{"some", program, patterns}}, listing); };
  EXPECT_EQ(missing("prnn_faults_tests", "Draws.* Offsets/* All/Every.Is/cpu *.AreRight -Draws.AreN*"), "");
  EXPECT_EQ(missing("prnn_faults_tests", "Draws.* -Draws.AreO*"), "check 'some': no test is called -Draws.AreO*");
  EXPECT_EQ(missing("prnn_faults_tests", "Draws.* Draws.Are"), "check 'some': no test is called Draws.Are");
  EXPECT_EQ(missing("prnn_faults_tests", "Draw.*"), "check 'some': no test is called Draw.*");
  EXPECT_EQ(missing("prnn_faults", "verify a.toml"), "");
}

/// Three checks; the second is the fault's own.
struct Script {
  const Fault fault{7, "layer", "what", "own"};
  const std::vector<Check> checks{{"first", "prnn_faults", ""}, {"own", "prnn_faults", ""}, {"last", "prnn_faults", ""}};
  std::map<std::string, int> codes;
  std::vector<std::string> ran;

  Tried run() {
    return try_checks(fault, true, checks, [&](const Check& check) {
      ran.push_back(check.name);
      return Ended{codes[check.name], 0.5, ""};
    });
  }
};

TEST(TryingChecks, BeginsWithTheFaultsOwnAndEndsWhereOneFails) {
  Script own{.codes = {{"own", 1}, {"last", 1}}};
  const Tried caught = own.run();
  EXPECT_EQ(own.ran, (std::vector<std::string>{"own"}));
  EXPECT_EQ(caught.by, &own.checks[1]);
  EXPECT_EQ(caught.time_s, 0.5);
  EXPECT_FALSE(caught.died);
  EXPECT_TRUE(caught.hidden);

  Script other{.codes = {{"last", 5}}};
  EXPECT_EQ(other.run().by, &other.checks[2]);
  EXPECT_EQ(other.ran, (std::vector<std::string>{"own", "first", "last"}));

  Script none;
  EXPECT_EQ(none.run().by, nullptr);
  EXPECT_EQ(none.ran.size(), 3u);
  EXPECT_EQ(none.run().time_s, 1.5);
}

TEST(TryingChecks, TakesACheckThatDoesNotComeBackForNone) {
  Script slow{.codes = {{"own", 124}}};
  const Tried tried = slow.run();
  EXPECT_EQ(tried.by, nullptr);
  EXPECT_TRUE(tried.died);

  Script killed{.codes = {{"own", 139}}};
  EXPECT_EQ(killed.run().by, &killed.checks[1]);
  EXPECT_TRUE(killed.run().died);
}

TEST(TriedFaults, AreCountedAndHaveTheCodeOfTheContract) {
  const Fault fault{7, "carry", "the carry is lost", "own"};
  const Check check{"own", "prnn_faults", ""};
  std::vector<Tried> all(kFewestHidden + 1, {.fault = &fault, .hidden = true, .by = &check, .died = false, .time_s = 0.25});
  all.front().hidden = false;
  EXPECT_EQ(exit_code(all), 0);
  const std::string text = to_table(all, {{7, {"a.cpp:3"}}});
  EXPECT_NE(text.find("\n  7  carry                  the carry is lost "), std::string::npos) << text;
  EXPECT_NE(text.find(" a.cpp:3 "), std::string::npos) << text;
  EXPECT_NE(text.find("40 of 41 hidden"), std::string::npos) << text;
  EXPECT_NE(text.find("\n41 of 41 caught: 100 %\n"), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with("with the checks switched off, the same runs unjudged: 0 of 41 caught: 0 %\n")) << text;

  const Json json = to_json(all, {{7, {"a.cpp:3"}}});
  EXPECT_EQ(json["faults"].size(), 41u);
  EXPECT_EQ(json["faults"][0].dump(),
            R"({"id":7,"layer":"carry","fault":"the carry is lost","place":"a.cpp:3","hidden":false,"check":"own","caught_by":"own","died":false,"time_s":0.25})");
  EXPECT_EQ(json["hidden"], 40);
  EXPECT_EQ(json["caught_percent"], 100);
  EXPECT_EQ(json["caught_percent_without_checks"], 0);
  EXPECT_EQ(json["exit_code"], 0);

  std::vector<Tried> missed = all;
  missed.back().by = nullptr;
  missed.back().died = true;
  EXPECT_EQ(exit_code(missed), 2);
  EXPECT_NE(to_table(missed, {}).find(" not in the sources "), std::string::npos);
  EXPECT_NE(to_table(missed, {}).find(" NOT CAUGHT "), std::string::npos);
  EXPECT_NE(to_table(missed, {}).find("\n40 of 41 caught: 98 %\n"), std::string::npos);
  EXPECT_NE(to_table(missed, {}).find("1 of 41 caught: 2 %\n"), std::string::npos);
  EXPECT_TRUE(to_json(missed, {})["faults"][40]["caught_by"].is_null());
  EXPECT_EQ(to_json(missed, {})["faults"][40]["died"], true);

  std::vector<Tried> plain = all;
  plain.back().hidden = false;
  EXPECT_EQ(exit_code(plain), 2);
  EXPECT_NE(to_table(plain, {}).find("39 of 41 hidden"), std::string::npos);
  EXPECT_NE(to_table(plain, {}).find("expected 40 at least"), std::string::npos);
}

}  // namespace
}  // namespace prnn
