// supervisor.test.cpp: a process that a case ends is replaced, the case named and never run again; everything else ends the run as it would without a supervisor.
#include "harness/supervisor.hpp"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <csignal>
#include <fstream>
#include <thread>

#include "harness/program_test.hpp"
#include "harness/sweep.hpp"

namespace prnn {
namespace {

constexpr double kPatience_s = 0.3, kNever_s = 600;

/// Lines that the processes of the work leave in a file: what they do cannot be seen otherwise.
class Supervised : public ::testing::Test {
 protected:
  Supervised() : path_(std::filesystem::temp_directory_path() / ("prnn-supervised-" + std::to_string(getpid()))) { std::filesystem::remove(path_); }
  ~Supervised() override { std::filesystem::remove(path_); }
  void say(const std::string& line) const { std::ofstream(path_, std::ios::app) << line << "\n"; }
  std::string said() const { return content(path_); }
  std::filesystem::path path_;
};

std::string shown(const EndedCases& ended) {
  std::string text;
  for (const auto& [case_id, end] : ended) text += case_id + " " + std::string(to_string(end.status)) + " " + end.reason + ";";
  return text;
}

TEST_F(Supervised, WorkThatReturnsIsDoneOnceAndGivesTheExitCode) {
  const pid_t here = getpid();
  EXPECT_EQ(supervise(kNever_s,
                      [&](const Attempt& attempt) {
                        attempt.note.set("case");
                        attempt.note.set("");
                        say(attempt.first() && getpid() != here && getpgrp() == getpid() ? "first, in a process and group of its own" : "no");
                        sigset_t blocked;
                        sigprocmask(SIG_SETMASK, nullptr, &blocked);
                        say(sigismember(&blocked, SIGINT) == 0 && std::signal(SIGTTOU, SIG_DFL) == SIG_IGN ? "as before" : "no");
                        return 3;
                      }),
            3);
  EXPECT_EQ(said(), "first, in a process and group of its own\nas before\n");
  sigset_t blocked;
  sigprocmask(SIG_SETMASK, nullptr, &blocked);
  EXPECT_EQ(sigismember(&blocked, SIGINT), 0);
}

TEST_F(Supervised, TheExitCodeIsKnownWhereTheCallerIgnoredItsChildren) {
  const auto before = std::signal(SIGCHLD, SIG_IGN);
  EXPECT_EQ(supervise(kNever_s, [](const Attempt&) { return 3; }), 3);
  std::signal(SIGCHLD, before);
}

TEST_F(Supervised, EachCaseThatEndsItsProcessIsNamedWithTheReason) {
  const int code = supervise(kPatience_s, [&](const Attempt& attempt) {
    const auto next = [&](const char* case_id) {
      attempt.note.set(case_id);
      return !attempt.ended.contains(case_id);
    };
    if (next("faults")) std::raise(SIGSEGV);
    if (next("hangs")) pause();
    if (next("takes the device")) throw DeviceLost("takes the device", "illegal address");
    if (next("exits")) _exit(0);
    if (next("is killed")) std::raise(SIGKILL);
    attempt.note.set("");
    say(shown(attempt.ended));
    return attempt.first() ? 1 : 4;
  });
  EXPECT_EQ(code, 4);
  EXPECT_EQ(said(),
            "exits error the process ended with exit code 0;"
            "faults error signal 11 (Segmentation fault) ended the process;"
            "hangs timeout no sign of life for 0.3 s; its process was killed;"
            "is killed error signal 9 (Killed) ended the process;"
            "takes the device error illegal address;\n");
}

TEST_F(Supervised, AReasonIsOfItsOwnCaseAlone) {
  supervise(kNever_s, [&](const Attempt& attempt) -> int {
    if (attempt.first()) throw DeviceLost("a", "illegal address");
    attempt.note.set("b");
    if (!attempt.ended.contains("b")) std::raise(SIGSEGV);
    attempt.note.set("");
    say(attempt.ended.at("b").reason);
    return 0;
  });
  EXPECT_EQ(said(), "signal 11 (Segmentation fault) ended the process\n");
}

TEST_F(Supervised, LongNamesAreCut) {
  const std::string name(10'000, 'x');
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(supervise(kNever_s,
                      [&](const Attempt& attempt) -> int {
                        if (attempt.first()) throw DeviceLost(name, name);
                        const auto& [case_id, end] = *attempt.ended.begin();
                        return case_id.size() == 4095 && end.reason.size() == 4095 ? 4 : 1;
                      }),
            4);
  ::testing::internal::GetCapturedStderr();
}

TEST_F(Supervised, AFaultOfNoCaseEndsTheRunWithCode5) {
  for (const int signal : {SIGSEGV, SIGKILL}) {
    EXPECT_EQ(supervise(kNever_s,
                        [&](const Attempt& attempt) -> int {
                          say("once");
                          attempt.note.set("a");
                          attempt.note.set("");
                          std::raise(signal);
                          return 0;
                        }),
              5);
  }
  EXPECT_EQ(said(), "once\nonce\n");
}

TEST_F(Supervised, WhatGoesOnIsNotTakenForAHang) {
  using std::chrono::milliseconds;
  EXPECT_EQ(supervise(2 * kPatience_s,
                      [&](const Attempt& attempt) {
                        std::this_thread::sleep_for(milliseconds(900));  // no case: the reference, the plan
                        for (int step = 0; step < 6; ++step) {
                          attempt.note.set("the same case");
                          std::this_thread::sleep_for(milliseconds(200));
                        }
                        attempt.note.set("");
                        std::this_thread::sleep_for(milliseconds(900));  // no case any more
                        return attempt.first() ? 4 : 1;
                      }),
            4);
}

TEST_F(Supervised, TimeIsCountedFromTheFirstProcess) {
  supervise(kNever_s, [&](const Attempt& attempt) -> int {
    if (attempt.first()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      throw DeviceLost("a", "lost");
    }
    say(attempt.spent_s >= 0.05 && attempt.spent_s < 60 ? "counted" : std::to_string(attempt.spent_s));
    return 0;
  });
  EXPECT_EQ(said(), "counted\n");
}

TEST_F(Supervised, WhatStandsInABufferIsWrittenOnce) {
  ::testing::internal::CaptureStdout();
  std::cout << "before ";
  std::printf("it\n");
  supervise(kNever_s, [](const Attempt&) {
    std::cout << "inside" << '\n';
    return 0;
  });
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "before it\ninside\n");
}

/// A supervisor in a process of its own, whose work says "ready" and waits.
class SupervisedSignals : public Supervised {
 protected:
  pid_t start(const std::function<int()>& work) {
    const pid_t child = fork();
    if (child == 0) {
      _exit(supervise(kNever_s, [&](const Attempt& attempt) {
        attempt.note.set("case");
        const int code = work();
        attempt.note.set("");
        return code;
      }));
    }
    EXPECT_TRUE(becomes_true([&] { return said().ends_with("ready\n"); }, 30));
    return child;
  }
  static int wait(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    return status;
  }
};

TEST_F(SupervisedSignals, ReachTheWorkWhichDecides) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const pid_t child = start([&] {
      static volatile std::sig_atomic_t caught = 0;
      std::signal(signal, [](int) { caught = caught + 1; });
      say("ready");
      while (caught == 0) usleep(1000);
      usleep(50'000);  // it comes once, not from the terminal too
      return caught == 1 ? 7 : 8;
    });
    kill(child, signal);
    const int status = wait(child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7) << signal;
    std::filesystem::remove(path_);
  }
}

TEST_F(SupervisedSignals, ThatEndTheWorkEndTheSupervisorByTheSame) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    const pid_t child = start([&] {
      say("ready");
      pause();
      return 0;
    });
    kill(child, signal);
    const int status = wait(child);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == signal) << signal;
    EXPECT_EQ(said(), "ready\n") << "not tried again";
    std::filesystem::remove(path_);
  }
}

TEST_F(SupervisedSignals, StopAndContinueBoth) {
  const pid_t child = start([&] {
    say("ready");
    while (!said().ends_with("go\n")) usleep(1000);
    say("gone");
    return 7;
  });
  kill(child, SIGTSTP);
  int status = 0;
  ASSERT_TRUE(becomes_true([&] { return waitpid(child, &status, WUNTRACED | WNOHANG) == child; }, 10));
  EXPECT_TRUE(WIFSTOPPED(status));
  say("go");
  usleep(50'000);
  EXPECT_TRUE(said().ends_with("go\n")) << "the work is stopped too";
  kill(child, SIGCONT);
  const bool ended = becomes_true([&] { return waitpid(child, &status, WNOHANG) == child; }, 10);
  EXPECT_TRUE(ended && WIFEXITED(status) && WEXITSTATUS(status) == 7);
  if (!ended) {
    kill(child, SIGKILL);
    wait(child);
  }
}

TEST_F(SupervisedSignals, AKilledSupervisorTakesTheWorkAlong) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t child = start([&] {
    say("ready");
    pause();
    return 0;
  });
  close(ends[1]);  // the work has the other one
  kill(child, SIGKILL);
  wait(child);
  pollfd closed{.fd = ends[0], .events = 0, .revents = 0};
  EXPECT_EQ(poll(&closed, 1, 10'000), 1) << "the work lives on";
  close(ends[0]);
}

}  // namespace
}  // namespace prnn
