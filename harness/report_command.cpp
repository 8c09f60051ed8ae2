// report_command.cpp: the page of a record, made by plots/report.py.
#include <fmt/format.h>
#include <sys/wait.h>
#include <cstdio>
#include <filesystem>

#include "harness/commands.hpp"
#include "harness/exit_codes.hpp"
#include "harness/shell_words.hpp"

namespace prnn {

namespace fs = std::filesystem;

Page make_report(const std::vector<std::string>& files, const std::string& out) {
  const fs::path script = home_directory() / "plots" / "report.py";
  if (!fs::exists(script)) return {kBadUsage, fmt::format("{}: no such file; the page needs the sources of prnn", script.string())};
  const char* python = fs::exists("/usr/bin/python3") ? "/usr/bin/python3" : "/usr/bin/env python3";  // the distribution's own has the distribution's matplotlib
  std::string command =
      fmt::format("PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR={} {} {}", quoted(fs::absolute(cache_directory() / "matplotlib").string()), python, quoted(script.string()));
  for (const std::string& file : files) command += " " + quoted(file);
  if (!out.empty()) command += " --out " + quoted(out);
  std::FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (!pipe) return {kBroken, "python3 cannot be started"};
  std::string text;
  for (char buffer[4096]; const std::size_t count = std::fread(buffer, 1, sizeof buffer, pipe);) text.append(buffer, count);
  const int status = pclose(pipe);
  text.erase(text.find_last_not_of('\n') + 1);
  Page page{WIFEXITED(status) ? WEXITSTATUS(status) : kBroken, text.substr(text.rfind('\n') + 1)};
  if (page.status != 0 && page.status != kBadUsage) page.status = kBroken;
  return page;
}

}  // namespace prnn
