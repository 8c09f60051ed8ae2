// Tests of the sources that the program carries.
#include "kernels/runtime/embedded.hpp"

#include <gtest/gtest.h>
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace prnn {
namespace {

TEST(EmbeddedSources, AreTheFilesOfTheTree) {
  const std::vector<SourceFile>& files = embedded_sources();
  ASSERT_GT(files.size(), 50u);
  for (const SourceFile& file : files) {
    std::ifstream in(std::filesystem::path(PRNN_SOURCE_DIR) / file.path, std::ios::binary);
    EXPECT_EQ(file.text, std::string(std::istreambuf_iterator<char>(in), {})) << file.path;
  }
  EXPECT_TRUE(std::is_sorted(files.begin(), files.end(), [](const SourceFile& a, const SourceFile& b) { return a.path < b.path; }));
}

TEST(EmbeddedSources, HoldWhatCellsAndKernelsAreCompiledFromAndNoMore) {
  const auto carried = [](std::string_view path) {
    return std::any_of(embedded_sources().begin(), embedded_sources().end(), [&](const SourceFile& file) { return file.path == path; });
  };
  for (const char* path : {"kernels/cells/cell.hpp", "kernels/cells/rules.hpp", "kernels/solvers/cpu/lanes.cpp", "kernels/solvers/cuda/shooting.cu",
                           "kernels/primitives/device.cuh", "kernels/ops/recurrence.cpp", "reference/cell_check.cpp", "reference/cell_object.cpp"})
    EXPECT_TRUE(carried(path)) << path;
  for (const SourceFile& file : embedded_sources()) EXPECT_EQ(file.path.find("test"), file.path.npos) << file.path;
}

}  // namespace
}  // namespace prnn
