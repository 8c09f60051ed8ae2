// sessions.cpp: see sessions.hpp.
#include "harness/sessions.hpp"

#include <iterator>

#include "harness/visits.hpp"

namespace prnn {

std::vector<Session> sessions(const std::vector<RecordFile>& files, const std::vector<const std::vector<RecordFile>*>& others) {
  std::vector<Session> list;
  for (const RecordFile& mine : files) {
    for (const std::vector<RecordFile>* of : others) {
      for (const RecordFile& theirs : *of) {
        if (took_turns(mine.head, theirs.head)) list.emplace_back(&mine, &theirs);
      }
    }
  }
  return list;
}

std::vector<Session> sessions_of_one_build(const std::vector<RecordFile>& files, const std::vector<RecordFile>& others) {
  std::vector<Session> list = sessions(files, {&others});
  std::erase_if(list, [](const Session& session) {
    const Provenance &a = session.first->head, &b = session.second->head;
    return a.commit != b.commit || a.dirty != b.dirty || a.fingerprint != b.fingerprint || !a.inject.empty() || !b.inject.empty();
  });
  return list;
}

PairsOfProcesses pairs_of(const std::vector<Session>& sessions, const std::string& case_id) {
  PairsOfProcesses pairs;
  for (const auto& [my_file, their_file] : sessions) {
    const CaseRecord *my_row = my_file->find(case_id), *their_row = their_file->find(case_id);
    if (!my_row || !their_row) continue;
    std::vector<std::vector<double>> more = paired_visits(*my_row, *their_row);
    if (more.empty()) continue;
    std::move(more.begin(), more.end(), std::back_inserter(pairs.visits));
    pairs.mine.push_back(my_row), pairs.theirs.push_back(their_row);
  }
  return pairs;
}

}  // namespace prnn
