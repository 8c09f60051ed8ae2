// program_test.hpp: the built program in a folder of the test's own.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <sstream>
#include <string>
#include <thread>

namespace prnn {

inline std::string content(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(stream), {});
}

/// Whether holds() became true within so many seconds.
inline bool becomes_true(const std::function<bool()>& holds, double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

class Program : public ::testing::Test {
 protected:
  struct Ended {
    int code = -1;
    std::string out, err;
  };

  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("prnn-program-" + std::to_string(getpid()) + "-" + ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(folder_);
    put("small.toml", kSmall);
    const char* chosen = std::getenv("PRNN_EXE");
    exe_ = chosen ? chosen : PRNN_EXE;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void put(const std::string& name, const std::string& text) { std::ofstream(folder_ / name, std::ios::binary) << text; }
  std::string get(const std::string& name) { return content(folder_ / name); }
  std::int64_t lines(const std::string& name) {
    const std::string text = get(name);
    return std::count(text.begin(), text.end(), '\n');
  }

  /// words as a shell reads them; before: what stands before the program's name.
  std::string command(const std::string& words, const std::string& before = "") const {
    return "cd '" + folder_.string() + "' && export PRNN_CACHE=cache && " + before + " '" + exe_.string() + "' " + words + " >stdout 2>stderr";
  }
  Ended prnn(const std::string& words, const std::string& before = "") {
    const int status = std::system(command(words, before).c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, get("stdout"), get("stderr")};
  }
  /// The program's process, not waited for.
  pid_t start(const std::string& words) {
    const std::string text = command(words, "exec");
    const pid_t child = fork();
    if (child == 0) {
      execl("/bin/sh", "sh", "-c", text.c_str(), nullptr);
      _exit(127);
    }
    return child;
  }
  Ended wait(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, get("stdout"), get("stderr")};
  }
  /// Exit code 64 and exactly one line, which begins with `start` and holds `part`.
  void refused(const std::string& words, const std::string& start, const std::string& part = "") {
    const Ended e = prnn(words);
    EXPECT_EQ(e.code, 64) << words << ": " << e.err;
    EXPECT_EQ(std::count(e.err.begin(), e.err.end(), '\n'), 1) << words << ": " << e.err;
    EXPECT_TRUE(e.err.starts_with(start) && e.err.find(part) != std::string::npos) << words << ": " << e.err;
    EXPECT_EQ(e.out, "") << words;
  }
  void refused_suite(const std::string& text, const std::string& start, const std::string& part = "") {
    put("bad.toml", text);
    refused("verify bad.toml --out bad.jsonl", start, part);
    EXPECT_FALSE(std::filesystem::exists(folder_ / "bad.jsonl"));  // nothing is begun
  }

  static constexpr const char* kSmall = "title = \"t\"\ncells = [\"elman_diag\"]\nsolvers = [\"seq_fused\"]\nhidden = 3\nseq_len = [2, 3, 4]\n";
  static constexpr const char* kVerify = "verify small.toml --device cpu --no-report --out r.jsonl ";
  std::filesystem::path folder_, exe_;
};

}  // namespace prnn
