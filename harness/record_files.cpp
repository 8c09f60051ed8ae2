// record_files.cpp: see record_files.hpp.
#include "harness/record_files.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <fstream>
#include <iterator>
#include <utility>

#include "harness/sha256.hpp"

namespace prnn {

const CaseRecord* RecordFile::find(const std::string& case_id) const {
  const auto found = row_of.find(case_id);
  return found == row_of.end() ? nullptr : &rows[found->second];
}

RecordFile read_record_file(const std::string& path) {
  Records records = read_records(path);
  std::ifstream stream(path, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(stream), {});
  if (records.whole_bytes != std::ssize(text))
    throw BadInput(fmt::format("{}:{}: cut short; expected a whole record, as prnn run --resume makes of it", path, records.rows.size() + 2));
  if (records.rows.empty()) throw BadInput(path + ": has no case; expected a record that prnn run has written");
  RecordFile file{.path = path, .sha256 = sha256(text), .head = std::move(records.head), .rows = std::move(records.rows), .row_of = {}};
  for (std::size_t i = 0; i < file.rows.size(); ++i) {
    const CaseRecord& row = file.rows[i];
    if (!file.row_of.emplace(row.case_id, i).second) throw BadInput(fmt::format("{}:{}: {} is there twice", path, i + 2, row.case_id));
    const auto is_time = [](double sample) { return sample > 0; };  // a null is NaN
    if (!std::all_of(row.samples_s.begin(), row.samples_s.end(), is_time)) throw BadInput(fmt::format("{}:{}: samples_s: expected seconds above 0", path, i + 2));
  }
  return file;
}

void require_alike(const Runs& runs) {
  const RecordFile& first = runs.files.front();
  for (const RecordFile& file : runs.files) {
    const auto same = [&](const char* what, const std::string& theirs, const std::string& ours) {
      if (theirs != ours) throw BadInput(fmt::format("{}: of another {} ({}) than {}; expected {}", file.path, what, theirs, first.path, ours));
    };
    same("suite", file.head.suite_sha256, first.head.suite_sha256);
    same("device", file.rows.front().device, first.rows.front().device);
    same("cell", sha256_of_cell(file.head), sha256_of_cell(first.head));
    same("machine or build", file.head.fingerprint, first.head.fingerprint);
    same("commit", file.head.commit, first.head.commit);
  }
}

std::vector<const CaseRecord*> rows_of(const std::vector<RecordFile>& files, const std::string& case_id) {
  std::vector<const CaseRecord*> rows;
  for (const RecordFile& file : files) {
    if (const CaseRecord* row = file.find(case_id)) rows.push_back(row);
  }
  return rows;
}

std::vector<std::string> cases_of(const RecordFile& file, const std::set<std::string>& group_ids, std::size_t most) {
  std::vector<std::string> case_ids;
  for (const std::string& group_id : group_ids) {
    if (case_ids.size() > most) break;
    for (const CaseRecord& row : file.rows) {
      if (row.group_id == group_id) case_ids.push_back(row.case_id);
    }
  }
  return case_ids;
}

bool took_turns(const Provenance& a, const Provenance& b) {
  return a.interleaved_with && b.interleaved_with && a.interleaved_with->session == b.interleaved_with->session && a.interleaved_with->side != b.interleaved_with->side;
}

}  // namespace prnn
