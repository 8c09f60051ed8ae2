// progress.test.cpp: the progress line, the table and the interrupt key.
#include "harness/progress.hpp"

#include <gtest/gtest.h>
#include <unistd.h>
#include <cmath>

#include <csignal>
#include <cstdlib>
#include <sstream>

namespace prnn {
namespace {

TEST(ReadableTime, HasThreeDigitsAndAUnit) {
  EXPECT_EQ(readable_time(1.234e-5), "12.3 us");
  EXPECT_EQ(readable_time(9.9996e-4), "1 ms");
  EXPECT_EQ(readable_time(2.5e-9), "2.5 ns");
  EXPECT_EQ(readable_time(0.25), "250 ms");
  EXPECT_EQ(readable_time(1), "1 s");
  EXPECT_EQ(readable_time(89), "89 s");
  EXPECT_EQ(readable_time(120), "2 min");
  EXPECT_EQ(readable_time(7200), "2 h");
  EXPECT_EQ(readable_time(1.0 / 0.0), "-");
}

TEST(Progress, OnATerminalRewritesOneLineWithTheTimeLeft) {
  std::ostringstream out;
  double now = 0;
  Progress progress(&out, true, [&] { return now; });
  progress.show(0, 10, "a");
  now = 2;
  progress.show(2, 10, "b");
  EXPECT_EQ(out.str(), "\r\x1b[K[0/10] a\r\x1b[K[2/10] b, about 8 s left");
  now = 2.01;
  progress.show(3, 10, "c");  // too soon
  progress.end();
  EXPECT_EQ(out.str(), "\r\x1b[K[0/10] a\r\x1b[K[2/10] b, about 8 s left\r\x1b[K");
}

TEST(Progress, ElsewhereWritesPlainLinesEveryFewSecondsAndTheLast) {
  std::ostringstream out;
  double now = 0;
  Progress progress(&out, false, [&] { return now; });
  for (int i = 0; i <= 7; ++i, now += 1) progress.show(i, 7, "x");
  progress.end();
  EXPECT_EQ(out.str(), "[0/7] x\n[5/7] x, about 2 s left\n[7/7] x\n");
}

TEST(Progress, StartsAnewForAnotherKindOfStep) {
  std::ostringstream out;
  double now = 0;
  Progress progress(&out, false, [&] { return now; });
  progress.show(0, 3, "reference");
  now = 100;
  progress.show(0, 10, "x");
  now = 110;
  progress.show(5, 10, "x");
  EXPECT_EQ(out.str(), "[0/3] reference\n[0/10] x\n[5/10] x, about 10 s left\n");
}

TEST(Progress, WithoutAStreamIsSilent) {
  Progress progress(nullptr, true);
  progress.show(1, 2, "x");
  progress.end();
}

CaseRecord row(const std::string& solver, Status status, std::int64_t hidden = 64) {
  CaseRecord r;
  r.problem.cell = "gru_diag";
  r.problem.hidden = hidden;
  r.solver = solver;
  r.status = status;
  return r;
}

TEST(Table, HasOneAlignedLineARow) {
  CaseRecord fast = row("seq_fused", Status::ok, 1024), slow = row("seq_stepwise", Status::ok);
  fast.time_s.emplace().median = 1.5e-5;
  fast.time_s->mean = 1;
  fast.speedup["seq_stepwise"] = {12.345, 12, 13};
  fast.iterations = 3;
  fast.error.emplace().test_ratio = 0.25;
  EXPECT_EQ(table({fast, slow}, {"seq_stepwise"}, false),
            "cell      B     D    L  regime  solver        status   time  x seq_stepwise  iterations  error/bound\n"
            "gru_diag  1  1024  256  paper   seq_fused     ok      15 us            12.3           3         0.25\n"
            "gru_diag  1    64  256  paper   seq_stepwise  ok          -               -           -            -\n");
}

TEST(Table, ShowsTheLargestErrorOfAllOutputs) {
  CaseRecord r = row("s", Status::ok);
  r.error_da.emplace().test_ratio = 0.125;
  EXPECT_NE(table({r}, {}, false).find("0.12\n"), std::string::npos) << table({r}, {}, false);
  r.error.emplace().test_ratio = 0.5;
  r.error_du.emplace().test_ratio = 2.5;
  r.error_dh0.emplace();
  EXPECT_NE(table({r}, {}, false).find("2.5\n"), std::string::npos) << table({r}, {}, false);
  r.error_dh0->test_ratio = std::nan("");
  EXPECT_NE(table({r}, {}, false).find("nan\n"), std::string::npos) << table({r}, {}, false);
}

TEST(Table, ShowsAnotherAxisWhereRowsDifferInIt) {
  CaseRecord a = row("s", Status::ok), b = a;
  EXPECT_EQ(table({a, b}, {}, false).find("storage"), std::string::npos);
  b.problem.storage = Storage::bf16;
  b.problem.iteration_limit = 3;
  b.cache = "hot";
  const std::string text = table({a, b}, {}, false);
  for (const char* shown : {"storage", "bf16", "limit", "cache", "hot"}) EXPECT_NE(text.find(shown), std::string::npos) << shown;
}

TEST(Table, PaintsOnlyTheUnexpectedRedAndSaysWhy) {
  CaseRecord expected = row("a", Status::wrong), surprise = row("b", Status::wrong), fine = row("c", Status::ok);
  expected.expected_status = Status::wrong;
  expected.reason = surprise.reason = "too far off";
  const std::string text = table({expected, surprise, fine}, {}, true);
  EXPECT_EQ(text.find("\x1b[31mwrong\x1b[0m"), text.rfind("\x1b[31m"));
  EXPECT_GT(text.find("\x1b[31m"), text.find("b  "));
  EXPECT_EQ(text.find("  too far off"), text.rfind("  too far off"));
  EXPECT_NE(text.find("  too far off"), std::string::npos);
  EXPECT_EQ(table({surprise}, {}, false).find('\x1b'), std::string::npos);
  CaseRecord too_good = row("e", Status::ok);
  too_good.expected_status = Status::wrong;
  EXPECT_NE(table({too_good}, {}, false).find("  expected wrong"), std::string::npos);
  CaseRecord skipped = row("d", Status::skipped);
  skipped.reason = undefined_combination("why");
  EXPECT_EQ(table({skipped}, {}, true).find('\x1b'), std::string::npos);
  EXPECT_NE(table({skipped}, {}, true).find("why"), std::string::npos);
  skipped.reason = "no excuse";
  EXPECT_NE(table({skipped}, {}, true).find('\x1b'), std::string::npos);
}

TEST(Color, IsOffWhereItIsNotWantedOrNotATerminal) {
  EXPECT_EQ(stdout_has_color(), isatty(STDOUT_FILENO) && !std::getenv("NO_COLOR"));
  setenv("NO_COLOR", "1", 1);
  EXPECT_FALSE(stdout_has_color());
  unsetenv("NO_COLOR");
  setenv("TERM", "dumb", 1);
  EXPECT_FALSE(stderr_is_terminal());
}

TEST(InterruptsDeathTest, AreRememberedOnceAndDeadlyTwice) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        catch_interrupts();
        if (interrupted()) std::_Exit(1);
        std::raise(SIGINT);
        std::_Exit(interrupted() ? 42 : 2);
      },
      ::testing::ExitedWithCode(42), "");
  EXPECT_EXIT(
      {
        catch_interrupts();
        std::raise(SIGTERM);
        std::raise(SIGTERM);
        std::_Exit(3);
      },
      ::testing::KilledBySignal(SIGTERM), "");
}

}  // namespace
}  // namespace prnn
