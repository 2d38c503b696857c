-- Rows of every table at revision 0002, written by the release that had it. Frozen.
INSERT INTO memory.agent_settings (tenant_id, scope, scope_id, name, version, value, valid_from, set_by, reason) VALUES
	('default', 'agent', 'potter', 'prompt', 1, '{"text": "Be brief."}', '2026-11-21 19:44:14.328044+00', 'ops', 'first'),
	('default', 'agent', 'potter', 'prompt', 2, '{"text": "Be kind."}', '2026-11-21 19:44:14.331914+00', 'ops', NULL);
INSERT INTO memory.checkpoint_blobs (tenant_id, thread_id, checkpoint_ns, channel, version, value, type, blob) VALUES
	('default', 'graph', '', '__start__', '000000000001.a37f19d97670c', '{"messages": {"v": [{"id": "h-1", "type": "human", "content": "I live in Lyon and like tea."}], "$t": "messages"}}', NULL, NULL),
	('default', 'graph', '', 'branch:to:answer', '000000000002.15051ddbc0381', 'null', NULL, NULL),
	('default', 'graph', '', 'city', '000000000003.adab0872fb15f', '"Lyon"', NULL, NULL),
	('default', 'graph', '', 'seen', '000000000003.adab0872fb15f', NULL, 'msgpack', '\xc7120093a86275696c74696e73a37365749201a161'),
	('default', 'graph', '', 'price', '000000000003.adab0872fb15f', NULL, 'msgpack', '\xc7170093a7646563696d616ca7446563696d616ca531322e3530'),
	('default', 'graph', '', 'raw', '000000000003.adab0872fb15f', NULL, 'bytes', '\x00ff'),
	('default', 'graph', '', 'when', '000000000003.adab0872fb15f', NULL, 'msgpack', '\xc73b0394a86461746574696d65a86461746574696d65b9323032362d31312d30325430393a33303a30302b30303a3030ad66726f6d69736f666f726d6174'),
	('default', 'graph', '', 'steps', '000000000003.adab0872fb15f', '[{"n": {"v": "1e+16", "$t": "float"}, "z": {"v": "-0.0", "$t": "float"}}]', NULL, NULL),
	('default', 'graph', '', 'branch:to:ask', '000000000003.adab0872fb15f', 'null', NULL, NULL),
	('default', 'graph', '', '__start__', '000000000005.26b952487d9ac', '{"messages": {"v": [{"id": "h-2", "type": "human", "content": "use the tool please"}], "$t": "messages"}}', NULL, NULL),
	('default', 'graph', '', 'branch:to:answer', '000000000006.392ae53edf853', 'null', NULL, NULL),
	('default', 'graph', '', 'steps', '000000000007.7ba0fea373a2a', '[{"n": {"v": "1e+16", "$t": "float"}, "z": {"v": "-0.0", "$t": "float"}}, "tool"]', NULL, NULL),
	('default', 'graph', '', 'branch:to:ask', '000000000007.7ba0fea373a2a', 'null', NULL, NULL),
	('default', 'graph', '', '__start__', '000000000005.adb8c306b5463', '{"messages": {"v": [{"id": "h-3", "type": "human", "content": "another way"}], "$t": "messages"}}', NULL, NULL),
	('default', 'graph', '', 'branch:to:answer', '000000000006.95e4aef6cacd6', 'null', NULL, NULL),
	('default', 'graph', '', 'raw', '000000000007.0926268c02e00', NULL, 'bytes', '\x00ff'),
	('default', 'graph', '', 'city', '000000000007.0926268c02e00', '"Lyon"', NULL, NULL),
	('default', 'graph', '', 'seen', '000000000007.0926268c02e00', NULL, 'msgpack', '\xc7120093a86275696c74696e73a37365749201a161'),
	('default', 'graph', '', 'when', '000000000007.0926268c02e00', NULL, 'msgpack', '\xc73b0394a86461746574696d65a86461746574696d65b9323032362d31312d30325430393a33303a30302b30303a3030ad66726f6d69736f666f726d6174'),
	('default', 'graph', '', 'price', '000000000007.0926268c02e00', NULL, 'msgpack', '\xc7170093a7646563696d616ca7446563696d616ca531322e3530'),
	('default', 'graph', '', 'steps', '000000000007.0926268c02e00', '[{"n": {"v": "1e+16", "$t": "float"}, "z": {"v": "-0.0", "$t": "float"}}, {"n": {"v": "1e+16", "$t": "float"}, "z": {"v": "-0.0", "$t": "float"}}]', NULL, NULL),
	('default', 'graph', '', 'branch:to:ask', '000000000007.0926268c02e00', 'null', NULL, NULL),
	('default', 'waiting', '', '__start__', '000000000001.54409622297a4', '{"messages": {"v": [{"id": "h-4", "type": "human", "content": "please wait"}], "$t": "messages"}}', NULL, NULL),
	('default', 'waiting', '', 'branch:to:answer', '000000000002.eab6584095fee', 'null', NULL, NULL),
	('default', 'waiting', '', 'city', '000000000003.b08de20cb7423', '"Lyon"', NULL, NULL),
	('default', 'waiting', '', 'seen', '000000000003.b08de20cb7423', NULL, 'msgpack', '\xc7120093a86275696c74696e73a37365749201a161'),
	('default', 'waiting', '', 'price', '000000000003.b08de20cb7423', NULL, 'msgpack', '\xc7170093a7646563696d616ca7446563696d616ca531322e3530'),
	('default', 'waiting', '', 'raw', '000000000003.b08de20cb7423', NULL, 'bytes', '\x00ff'),
	('default', 'waiting', '', 'when', '000000000003.b08de20cb7423', NULL, 'msgpack', '\xc73b0394a86461746574696d65a86461746574696d65b9323032362d31312d30325430393a33303a30302b30303a3030ad66726f6d69736f666f726d6174'),
	('default', 'waiting', '', 'steps', '000000000003.b08de20cb7423', '[{"n": {"v": "1e+16", "$t": "float"}, "z": {"v": "-0.0", "$t": "float"}}]', NULL, NULL),
	('default', 'waiting', '', 'branch:to:ask', '000000000003.b08de20cb7423', 'null', NULL, NULL);
INSERT INTO memory.checkpoint_writes (tenant_id, thread_id, checkpoint_ns, checkpoint_id, task_id, idx, task_path, channel, value, type, blob) VALUES
	('default', 'graph', '', '1f1e5e3e-d8f3-6e76-bfff-09f07ad15f81', '55ec51e8-b58e-3cee-06f5-06f1e6126998', 0, '~__pregel_pull, __start__', 'messages', '{"v": [{"id": "h-1", "type": "human", "content": "I live in Lyon and like tea."}], "$t": "messages"}', NULL, NULL),
	('default', 'graph', '', '1f1e5e3e-d8f3-6e76-bfff-09f07ad15f81', '55ec51e8-b58e-3cee-06f5-06f1e6126998', 1, '~__pregel_pull, __start__', 'branch:to:answer', 'null', NULL, NULL),
	('default', 'graph', '', '1f1e5e3e-d8f8-69e7-8000-9539b8fd51b3', '477d37b5-7745-4b07-830f-ec59cf5ffcf0', 0, '~__pregel_pull, answer', 'messages', '{"v": [{"id": "654657b8-b018-4bd6-8297-4cff1ad59eae", "type": "ai", "content": "Noted."}], "$t": "messages"}', NULL, NULL),
	('default', 'graph', '', '1f1e5e3e-d8f8-69e7-8000-9539b8fd51b3', '477d37b5-7745-4b07-830f-ec59cf5ffcf0', 1, '~__pregel_pull, answer', 'city', '"Lyon"', NULL, NULL),
	('default', 'graph', '', '1f1e5e3e-d8f8-69e7-8000-9539b8fd51b3', '477d37b5-7745-4b07-830f-ec59cf5ffcf0', 2, '~__pregel_pull, answer', 'seen', NULL, 'msgpack', '\xc7120093a86275696c74696e73a37365749201a161'),
	('default', 'graph', '', '1f1e5e3e-d8f8-69e7-8000-9539b8fd51b3', '477d37b5-7745-4b07-830f-ec59cf5ffcf0', 3, '~__pregel_pull, answer', 'price', NULL, 'msgpack', '\xc7170093a7646563696d616ca7446563696d616ca531322e3530'),
	('default', 'graph', '', '1f1e5e3e-d8f8-69e7-8000-9539b8fd51b3', '477d37b5-7745-4b07-830f-ec59cf5ffcf0', 4, '~__pregel_pull, answer', 'raw', NULL, 'bytes', '\x00ff'),
	('default', 'graph', '', '1f1e5e3e-d8f8-69e7-8000-9539b8fd51b3', '477d37b5-7745-4b07-830f-ec59cf5ffcf0', 5, '~__pregel_pull, answer', 'when', NULL, 'msgpack', '\xc73b0394a86461746574696d65a86461746574696d65b9323032362d31312d30325430393a33303a30302b30303a3030ad66726f6d69736f666f726d6174'),
	('default', 'graph', '', '1f1e5e3e-d8f8-69e7-8000-9539b8fd51b3', '477d37b5-7745-4b07-830f-ec59cf5ffcf0', 6, '~__pregel_pull, answer', 'steps', '[{"n": {"v": "1e+16", "$t": "float"}, "z": {"v": "-0.0", "$t": "float"}}]', NULL, NULL),
	('default', 'graph', '', '1f1e5e3e-d8f8-69e7-8000-9539b8fd51b3', '477d37b5-7745-4b07-830f-ec59cf5ffcf0', 7, '~__pregel_pull, answer', 'branch:to:ask', 'null', NULL, NULL),
	('default', 'graph', '', '1f1e5e3e-d933-6966-8001-1c3d524578f9', '851eda74-e3a7-11ac-72bc-c50821d76760', 0, '~__pregel_pull, ask', '__no_writes__', 'null', NULL, NULL),
	('default', 'graph', '', '1f1e5e3e-da3c-6d0e-8003-6aa874b77755', 'c89dc33d-8e5c-a156-db47-c458ba72ab9e', 0, '~__pregel_pull, __start__', 'messages', '{"v": [{"id": "h-2", "type": "human", "content": "use the tool please"}], "$t": "messages"}', NULL, NULL),
	('default', 'graph', '', '1f1e5e3e-da3c-6d0e-8003-6aa874b77755', 'c89dc33d-8e5c-a156-db47-c458ba72ab9e', 1, '~__pregel_pull, __start__', 'branch:to:answer', 'null', NULL, NULL),
	('default', 'graph', '', '1f1e5e3e-da3f-657e-8004-fed44a65a691', '280c2b6d-a173-d25d-03cf-e7f833308e18', 0, '~__pregel_pull, answer', 'messages', '{"v": [{"$o": ["", {"tool_calls": "2,1,0,3"}], "id": "53ddcadd-138d-46bf-a514-eb746cf61460", "type": "ai", "content": "", "tool_calls": [{"id": "call-1", "args": {"city": "Lyon"}, "name": "look_up", "type": "tool_call"}]}, {"id": "29c6430a-1d3c-4428-8f7c-585db6f538e3", "name": "look_up", "type": "tool", "content": "18 degrees", "tool_call_id": "call-1"}, {"id": "ca3e7d64-5425-48a0-ab42-b3edf9dc8dfa", "type": "ai", "content": "18 degrees in Lyon."}], "$t": "messages"}', NULL, NULL),
	('default', 'graph', '', '1f1e5e3e-da3f-657e-8004-fed44a65a691', '280c2b6d-a173-d25d-03cf-e7f833308e18', 1, '~__pregel_pull, answer', 'steps', '["tool"]', NULL, NULL),
	('default', 'graph', '', '1f1e5e3e-da3f-657e-8004-fed44a65a691', '280c2b6d-a173-d25d-03cf-e7f833308e18', 2, '~__pregel_pull, answer', 'branch:to:ask', 'null', NULL, NULL),
	('default', 'graph', '', '1f1e5e3e-da90-622a-8005-f1614fdd4adc', 'c9c8a32c-5d5f-c38f-d168-086d29a5469c', 0, '~__pregel_pull, ask', '__no_writes__', 'null', NULL, NULL),
	('default', 'graph', '', '1f1e5e3e-dc2b-6582-8004-95a8f5e9628f', '7b9073c4-3be5-1739-c2cc-75614dc10195', 0, '~__pregel_pull, answer', 'messages', '{"v": [{"id": "c33759fb-c008-4edc-a6d9-23848830a0f2", "type": "ai", "content": "Noted."}], "$t": "messages"}', NULL, NULL),
	('default', 'graph', '', '1f1e5e3e-dc2b-6582-8004-95a8f5e9628f', '7b9073c4-3be5-1739-c2cc-75614dc10195', 1, '~__pregel_pull, answer', 'city', '"Lyon"', NULL, NULL),
	('default', 'graph', '', '1f1e5e3e-dc2b-6582-8004-95a8f5e9628f', '7b9073c4-3be5-1739-c2cc-75614dc10195', 2, '~__pregel_pull, answer', 'seen', NULL, 'msgpack', '\xc7120093a86275696c74696e73a37365749201a161'),
	('default', 'graph', '', '1f1e5e3e-dc2b-6582-8004-95a8f5e9628f', '7b9073c4-3be5-1739-c2cc-75614dc10195', 3, '~__pregel_pull, answer', 'price', NULL, 'msgpack', '\xc7170093a7646563696d616ca7446563696d616ca531322e3530'),
	('default', 'graph', '', '1f1e5e3e-dc2b-6582-8004-95a8f5e9628f', '7b9073c4-3be5-1739-c2cc-75614dc10195', 4, '~__pregel_pull, answer', 'raw', NULL, 'bytes', '\x00ff'),
	('default', 'graph', '', '1f1e5e3e-dc2b-6582-8004-95a8f5e9628f', '7b9073c4-3be5-1739-c2cc-75614dc10195', 5, '~__pregel_pull, answer', 'when', NULL, 'msgpack', '\xc73b0394a86461746574696d65a86461746574696d65b9323032362d31312d30325430393a33303a30302b30303a3030ad66726f6d69736f666f726d6174'),
	('default', 'graph', '', '1f1e5e3e-dc2b-6582-8004-95a8f5e9628f', '7b9073c4-3be5-1739-c2cc-75614dc10195', 6, '~__pregel_pull, answer', 'steps', '[{"n": {"v": "1e+16", "$t": "float"}, "z": {"v": "-0.0", "$t": "float"}}]', NULL, NULL),
	('default', 'graph', '', '1f1e5e3e-dc2b-6582-8004-95a8f5e9628f', '7b9073c4-3be5-1739-c2cc-75614dc10195', 7, '~__pregel_pull, answer', 'branch:to:ask', 'null', NULL, NULL),
	('default', 'graph', '', '1f1e5e3e-dc29-642d-8003-0c91fc0d5288', '6e299181-b1a1-7d06-de60-46e358b10dbd', 0, '~__pregel_pull, __start__', 'messages', '{"v": [{"id": "h-3", "type": "human", "content": "another way"}], "$t": "messages"}', NULL, NULL),
	('default', 'graph', '', '1f1e5e3e-dc29-642d-8003-0c91fc0d5288', '6e299181-b1a1-7d06-de60-46e358b10dbd', 1, '~__pregel_pull, __start__', 'branch:to:answer', 'null', NULL, NULL),
	('default', 'graph', '', '1f1e5e3e-dc50-6e1c-8005-7b6de91e1018', '06e60397-76fb-a2d0-f027-9302094a2eb9', 0, '~__pregel_pull, ask', '__no_writes__', 'null', NULL, NULL),
	('default', 'waiting', '', '1f1e5e3e-dd21-6637-bfff-3283bded1193', '1c63bc21-688b-0f4e-eee9-8dfc09cb8577', 0, '~__pregel_pull, __start__', 'messages', '{"v": [{"id": "h-4", "type": "human", "content": "please wait"}], "$t": "messages"}', NULL, NULL),
	('default', 'waiting', '', '1f1e5e3e-dd21-6637-bfff-3283bded1193', '1c63bc21-688b-0f4e-eee9-8dfc09cb8577', 1, '~__pregel_pull, __start__', 'branch:to:answer', 'null', NULL, NULL),
	('default', 'waiting', '', '1f1e5e3e-dd43-6fd6-8001-fac34e30e848', '2944ae69-7990-791d-9416-2e6ac6efed97', -3, '~__pregel_pull, ask', '__interrupt__', NULL, 'msgpack', '\x91c7640293af6c616e6767726170682e7479706573a9496e7465727275707483a576616c756581a57768696368a463697479a26964d9203434626637353563376332336465303033653338343233346664343066383262af726573706f6e73655f736368656d61c0'),
	('default', 'waiting', '', '1f1e5e3e-dd23-64e0-8000-72bea1cbdc64', '6c2884ad-051f-2ed5-6162-9963396f9577', 0, '~__pregel_pull, answer', 'messages', '{"v": [{"id": "d6febdf3-911c-4e35-a585-5e8238ca34dd", "type": "ai", "content": "Noted."}], "$t": "messages"}', NULL, NULL),
	('default', 'waiting', '', '1f1e5e3e-dd23-64e0-8000-72bea1cbdc64', '6c2884ad-051f-2ed5-6162-9963396f9577', 1, '~__pregel_pull, answer', 'city', '"Lyon"', NULL, NULL),
	('default', 'waiting', '', '1f1e5e3e-dd23-64e0-8000-72bea1cbdc64', '6c2884ad-051f-2ed5-6162-9963396f9577', 2, '~__pregel_pull, answer', 'seen', NULL, 'msgpack', '\xc7120093a86275696c74696e73a37365749201a161'),
	('default', 'waiting', '', '1f1e5e3e-dd23-64e0-8000-72bea1cbdc64', '6c2884ad-051f-2ed5-6162-9963396f9577', 3, '~__pregel_pull, answer', 'price', NULL, 'msgpack', '\xc7170093a7646563696d616ca7446563696d616ca531322e3530'),
	('default', 'waiting', '', '1f1e5e3e-dd23-64e0-8000-72bea1cbdc64', '6c2884ad-051f-2ed5-6162-9963396f9577', 4, '~__pregel_pull, answer', 'raw', NULL, 'bytes', '\x00ff'),
	('default', 'waiting', '', '1f1e5e3e-dd23-64e0-8000-72bea1cbdc64', '6c2884ad-051f-2ed5-6162-9963396f9577', 5, '~__pregel_pull, answer', 'when', NULL, 'msgpack', '\xc73b0394a86461746574696d65a86461746574696d65b9323032362d31312d30325430393a33303a30302b30303a3030ad66726f6d69736f666f726d6174'),
	('default', 'waiting', '', '1f1e5e3e-dd23-64e0-8000-72bea1cbdc64', '6c2884ad-051f-2ed5-6162-9963396f9577', 6, '~__pregel_pull, answer', 'steps', '[{"n": {"v": "1e+16", "$t": "float"}, "z": {"v": "-0.0", "$t": "float"}}]', NULL, NULL),
	('default', 'waiting', '', '1f1e5e3e-dd23-64e0-8000-72bea1cbdc64', '6c2884ad-051f-2ed5-6162-9963396f9577', 7, '~__pregel_pull, answer', 'branch:to:ask', 'null', NULL, NULL);
INSERT INTO memory.checkpoints (tenant_id, thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, versions, message_refs, metadata, created_at) VALUES
	('default', 'graph', '', '1f1e5e3e-d8f3-6e76-bfff-09f07ad15f81', NULL, '{"v": 4, "ts": "2026-11-21T19:44:13.112047+00:00", "versions_seen": {"__input__": {}}, "updated_channels": ["__start__"]}', '{"__start__": "000000000001.a37f19d97670c"}', NULL, '{"step": -1, "source": "input", "parents": {}, "user_id": "alice"}', '2026-11-21 19:44:13.131125+00'),
	('default', 'graph', '', '1f1e5e3e-d8f8-69e7-8000-9539b8fd51b3', '1f1e5e3e-d8f3-6e76-bfff-09f07ad15f81', '{"v": 4, "ts": "2026-11-21T19:44:13.113985+00:00", "versions_seen": {"__input__": {}, "__start__": {"__start__": "000000000001.a37f19d97670c"}}, "updated_channels": ["branch:to:answer", "messages"]}', '{"messages": "000000000002.15051ddbc0381", "__start__": "000000000002.15051ddbc0381", "branch:to:answer": "000000000002.15051ddbc0381"}', '{"messages": [[1, 2]]}', '{"step": 0, "source": "loop", "parents": {}, "user_id": "alice"}', '2026-11-21 19:44:13.180496+00'),
	('default', 'graph', '', '1f1e5e3e-d933-6966-8001-1c3d524578f9', '1f1e5e3e-d8f8-69e7-8000-9539b8fd51b3', '{"v": 4, "ts": "2026-11-21T19:44:13.138133+00:00", "versions_seen": {"answer": {"branch:to:answer": "000000000002.15051ddbc0381"}, "__input__": {}, "__start__": {"__start__": "000000000001.a37f19d97670c"}}, "updated_channels": ["branch:to:ask", "city", "messages", "price", "raw", "seen", "steps", "when"]}', '{"raw": "000000000003.adab0872fb15f", "city": "000000000003.adab0872fb15f", "seen": "000000000003.adab0872fb15f", "when": "000000000003.adab0872fb15f", "price": "000000000003.adab0872fb15f", "steps": "000000000003.adab0872fb15f", "messages": "000000000003.adab0872fb15f", "__start__": "000000000002.15051ddbc0381", "branch:to:ask": "000000000003.adab0872fb15f", "branch:to:answer": "000000000003.adab0872fb15f"}', '{"messages": [[1, 2], [2, 3]]}', '{"step": 1, "source": "loop", "parents": {}, "user_id": "alice"}', '2026-11-21 19:44:13.197742+00'),
	('default', 'graph', '', '1f1e5e3e-d94d-6046-8002-2c26748bd38e', '1f1e5e3e-d933-6966-8001-1c3d524578f9', '{"v": 4, "ts": "2026-11-21T19:44:13.148549+00:00", "versions_seen": {"ask": {"branch:to:ask": "000000000003.adab0872fb15f"}, "answer": {"branch:to:answer": "000000000002.15051ddbc0381"}, "__input__": {}, "__start__": {"__start__": "000000000001.a37f19d97670c"}}, "updated_channels": []}', '{"raw": "000000000003.adab0872fb15f", "city": "000000000003.adab0872fb15f", "seen": "000000000003.adab0872fb15f", "when": "000000000003.adab0872fb15f", "price": "000000000003.adab0872fb15f", "steps": "000000000003.adab0872fb15f", "messages": "000000000003.adab0872fb15f", "__start__": "000000000002.15051ddbc0381", "branch:to:ask": "000000000004.36c1e6733598c", "branch:to:answer": "000000000003.adab0872fb15f"}', '{"messages": [[1, 3]]}', '{"step": 2, "source": "loop", "parents": {}, "user_id": "alice"}', '2026-11-21 19:44:13.220212+00'),
	('default', 'graph', '', '1f1e5e3e-da3c-6d0e-8003-6aa874b77755', '1f1e5e3e-d94d-6046-8002-2c26748bd38e', '{"v": 4, "ts": "2026-11-21T19:44:13.246763+00:00", "versions_seen": {"ask": {"branch:to:ask": "000000000003.adab0872fb15f"}, "answer": {"branch:to:answer": "000000000002.15051ddbc0381"}, "__input__": {}, "__start__": {"__start__": "000000000001.a37f19d97670c"}}, "updated_channels": ["__start__"]}', '{"raw": "000000000003.adab0872fb15f", "city": "000000000003.adab0872fb15f", "seen": "000000000003.adab0872fb15f", "when": "000000000003.adab0872fb15f", "price": "000000000003.adab0872fb15f", "steps": "000000000003.adab0872fb15f", "messages": "000000000003.adab0872fb15f", "__start__": "000000000005.26b952487d9ac", "branch:to:ask": "000000000004.36c1e6733598c", "branch:to:answer": "000000000003.adab0872fb15f"}', '{"messages": [[1, 3]]}', '{"step": 3, "source": "input", "parents": {}, "user_id": "alice"}', '2026-11-21 19:44:13.26711+00'),
	('default', 'graph', '', '1f1e5e3e-da3f-657e-8004-fed44a65a691', '1f1e5e3e-da3c-6d0e-8003-6aa874b77755', '{"v": 4, "ts": "2026-11-21T19:44:13.247812+00:00", "versions_seen": {"ask": {"branch:to:ask": "000000000003.adab0872fb15f"}, "answer": {"branch:to:answer": "000000000002.15051ddbc0381"}, "__input__": {}, "__start__": {"__start__": "000000000005.26b952487d9ac"}}, "updated_channels": ["branch:to:answer", "messages"]}', '{"raw": "000000000003.adab0872fb15f", "city": "000000000003.adab0872fb15f", "seen": "000000000003.adab0872fb15f", "when": "000000000003.adab0872fb15f", "price": "000000000003.adab0872fb15f", "steps": "000000000003.adab0872fb15f", "messages": "000000000006.392ae53edf853", "__start__": "000000000006.392ae53edf853", "branch:to:ask": "000000000004.36c1e6733598c", "branch:to:answer": "000000000006.392ae53edf853"}', '{"messages": [[1, 3], [3, 4]]}', '{"step": 4, "source": "loop", "parents": {}, "user_id": "alice"}', '2026-11-21 19:44:13.288469+00'),
	('default', 'graph', '', '1f1e5e3e-da90-622a-8005-f1614fdd4adc', '1f1e5e3e-da3f-657e-8004-fed44a65a691', '{"v": 4, "ts": "2026-11-21T19:44:13.280897+00:00", "versions_seen": {"ask": {"branch:to:ask": "000000000003.adab0872fb15f"}, "answer": {"branch:to:answer": "000000000006.392ae53edf853"}, "__input__": {}, "__start__": {"__start__": "000000000005.26b952487d9ac"}}, "updated_channels": ["branch:to:ask", "messages", "steps"]}', '{"raw": "000000000003.adab0872fb15f", "city": "000000000003.adab0872fb15f", "seen": "000000000003.adab0872fb15f", "when": "000000000003.adab0872fb15f", "price": "000000000003.adab0872fb15f", "steps": "000000000007.7ba0fea373a2a", "messages": "000000000007.7ba0fea373a2a", "__start__": "000000000006.392ae53edf853", "branch:to:ask": "000000000007.7ba0fea373a2a", "branch:to:answer": "000000000007.7ba0fea373a2a"}', '{"messages": [[1, 4], [4, 7]]}', '{"step": 5, "source": "loop", "parents": {}, "user_id": "alice"}', '2026-11-21 19:44:13.342386+00'),
	('default', 'graph', '', '1f1e5e3e-dab4-6be7-8006-ce42c2abbf2b', '1f1e5e3e-da90-622a-8005-f1614fdd4adc', '{"v": 4, "ts": "2026-11-21T19:44:13.295890+00:00", "versions_seen": {"ask": {"branch:to:ask": "000000000007.7ba0fea373a2a"}, "answer": {"branch:to:answer": "000000000006.392ae53edf853"}, "__input__": {}, "__start__": {"__start__": "000000000005.26b952487d9ac"}}, "updated_channels": []}', '{"raw": "000000000003.adab0872fb15f", "city": "000000000003.adab0872fb15f", "seen": "000000000003.adab0872fb15f", "when": "000000000003.adab0872fb15f", "price": "000000000003.adab0872fb15f", "steps": "000000000007.7ba0fea373a2a", "messages": "000000000007.7ba0fea373a2a", "__start__": "000000000006.392ae53edf853", "branch:to:ask": "000000000008.8b33f8d26eb36", "branch:to:answer": "000000000007.7ba0fea373a2a"}', '{"messages": [[1, 7]]}', '{"step": 6, "source": "loop", "parents": {}, "user_id": "alice"}', '2026-11-21 19:44:13.356914+00'),
	('default', 'graph', '', '1f1e5e3e-dc29-642d-8003-0c91fc0d5288', '1f1e5e3e-d94d-6046-8002-2c26748bd38e', '{"v": 4, "ts": "2026-11-21T19:44:13.448469+00:00", "versions_seen": {"ask": {"branch:to:ask": "000000000003.adab0872fb15f"}, "answer": {"branch:to:answer": "000000000002.15051ddbc0381"}, "__input__": {}, "__start__": {"__start__": "000000000001.a37f19d97670c"}}, "updated_channels": ["__start__"]}', '{"raw": "000000000003.adab0872fb15f", "city": "000000000003.adab0872fb15f", "seen": "000000000003.adab0872fb15f", "when": "000000000003.adab0872fb15f", "price": "000000000003.adab0872fb15f", "steps": "000000000003.adab0872fb15f", "messages": "000000000003.adab0872fb15f", "__start__": "000000000005.adb8c306b5463", "branch:to:ask": "000000000004.36c1e6733598c", "branch:to:answer": "000000000003.adab0872fb15f"}', '{"messages": [[1, 3]]}', '{"step": 3, "source": "input", "parents": {}}', '2026-11-21 19:44:13.457176+00'),
	('default', 'graph', '', '1f1e5e3e-dc2b-6582-8004-95a8f5e9628f', '1f1e5e3e-dc29-642d-8003-0c91fc0d5288', '{"v": 4, "ts": "2026-11-21T19:44:13.449336+00:00", "versions_seen": {"ask": {"branch:to:ask": "000000000003.adab0872fb15f"}, "answer": {"branch:to:answer": "000000000002.15051ddbc0381"}, "__input__": {}, "__start__": {"__start__": "000000000005.adb8c306b5463"}}, "updated_channels": ["branch:to:answer", "messages"]}', '{"raw": "000000000003.adab0872fb15f", "city": "000000000003.adab0872fb15f", "seen": "000000000003.adab0872fb15f", "when": "000000000003.adab0872fb15f", "price": "000000000003.adab0872fb15f", "steps": "000000000003.adab0872fb15f", "messages": "000000000006.95e4aef6cacd6", "__start__": "000000000006.95e4aef6cacd6", "branch:to:ask": "000000000004.36c1e6733598c", "branch:to:answer": "000000000006.95e4aef6cacd6"}', '{"messages": [[1, 3], [7, 8]]}', '{"step": 4, "source": "loop", "parents": {}}', '2026-11-21 19:44:13.472875+00'),
	('default', 'graph', '', '1f1e5e3e-dc50-6e1c-8005-7b6de91e1018', '1f1e5e3e-dc2b-6582-8004-95a8f5e9628f', '{"v": 4, "ts": "2026-11-21T19:44:13.464703+00:00", "versions_seen": {"ask": {"branch:to:ask": "000000000003.adab0872fb15f"}, "answer": {"branch:to:answer": "000000000006.95e4aef6cacd6"}, "__input__": {}, "__start__": {"__start__": "000000000005.adb8c306b5463"}}, "updated_channels": ["branch:to:ask", "city", "messages", "price", "raw", "seen", "steps", "when"]}', '{"raw": "000000000007.0926268c02e00", "city": "000000000007.0926268c02e00", "seen": "000000000007.0926268c02e00", "when": "000000000007.0926268c02e00", "price": "000000000007.0926268c02e00", "steps": "000000000007.0926268c02e00", "messages": "000000000007.0926268c02e00", "__start__": "000000000006.95e4aef6cacd6", "branch:to:ask": "000000000007.0926268c02e00", "branch:to:answer": "000000000007.0926268c02e00"}', '{"messages": [[1, 3], [7, 8], [8, 9]]}', '{"step": 5, "source": "loop", "parents": {}}', '2026-11-21 19:44:13.513334+00'),
	('default', 'graph', '', '1f1e5e3e-dc65-6ab3-8006-c7bb37475913', '1f1e5e3e-dc50-6e1c-8005-7b6de91e1018', '{"v": 4, "ts": "2026-11-21T19:44:13.473220+00:00", "versions_seen": {"ask": {"branch:to:ask": "000000000007.0926268c02e00"}, "answer": {"branch:to:answer": "000000000006.95e4aef6cacd6"}, "__input__": {}, "__start__": {"__start__": "000000000005.adb8c306b5463"}}, "updated_channels": []}', '{"raw": "000000000007.0926268c02e00", "city": "000000000007.0926268c02e00", "seen": "000000000007.0926268c02e00", "when": "000000000007.0926268c02e00", "price": "000000000007.0926268c02e00", "steps": "000000000007.0926268c02e00", "messages": "000000000007.0926268c02e00", "__start__": "000000000006.95e4aef6cacd6", "branch:to:ask": "000000000008.eb6e3c7dc5fd4", "branch:to:answer": "000000000007.0926268c02e00"}', '{"messages": [[1, 3], [7, 9]]}', '{"step": 6, "source": "loop", "parents": {}}', '2026-11-21 19:44:13.528424+00'),
	('default', 'waiting', '', '1f1e5e3e-dd21-6637-bfff-3283bded1193', NULL, '{"v": 4, "ts": "2026-11-21T19:44:13.550118+00:00", "versions_seen": {"__input__": {}}, "updated_channels": ["__start__"]}', '{"__start__": "000000000001.54409622297a4"}', NULL, '{"step": -1, "source": "input", "parents": {}, "user_id": "alice"}', '2026-11-21 19:44:13.553167+00'),
	('default', 'waiting', '', '1f1e5e3e-dd23-64e0-8000-72bea1cbdc64', '1f1e5e3e-dd21-6637-bfff-3283bded1193', '{"v": 4, "ts": "2026-11-21T19:44:13.550905+00:00", "versions_seen": {"__input__": {}, "__start__": {"__start__": "000000000001.54409622297a4"}}, "updated_channels": ["branch:to:answer", "messages"]}', '{"messages": "000000000002.eab6584095fee", "__start__": "000000000002.eab6584095fee", "branch:to:answer": "000000000002.eab6584095fee"}', '{"messages": [[1, 2]]}', '{"step": 0, "source": "loop", "parents": {}, "user_id": "alice"}', '2026-11-21 19:44:13.568262+00'),
	('default', 'waiting', '', '1f1e5e3e-dd43-6fd6-8001-fac34e30e848', '1f1e5e3e-dd23-64e0-8000-72bea1cbdc64', '{"v": 4, "ts": "2026-11-21T19:44:13.564281+00:00", "versions_seen": {"answer": {"branch:to:answer": "000000000002.eab6584095fee"}, "__input__": {}, "__start__": {"__start__": "000000000001.54409622297a4"}}, "updated_channels": ["branch:to:ask", "city", "messages", "price", "raw", "seen", "steps", "when"]}', '{"raw": "000000000003.b08de20cb7423", "city": "000000000003.b08de20cb7423", "seen": "000000000003.b08de20cb7423", "when": "000000000003.b08de20cb7423", "price": "000000000003.b08de20cb7423", "steps": "000000000003.b08de20cb7423", "messages": "000000000003.b08de20cb7423", "__start__": "000000000002.eab6584095fee", "branch:to:ask": "000000000003.b08de20cb7423", "branch:to:answer": "000000000003.b08de20cb7423"}', '{"messages": [[1, 2], [2, 3]]}', '{"step": 1, "source": "loop", "parents": {}, "user_id": "alice"}', '2026-11-21 19:44:13.622249+00');
INSERT INTO memory.documents (tenant_id, id, collection, source, user_id, title, media_type, version, content_hash, metadata, created_at, updated_at) VALUES
	('default', '01a1ffa3-4bab-7881-b0a0-c24cffea4493', 'default', 'handbook', NULL, 'Handbook', 'text/markdown', 2, '\x94054383ee21e0254794923e42dc78851d3e8de0f450b915f70014e5df6aef6e', '{"edition": 2}', '2026-11-21 19:44:14.251353+00', '2026-11-21 19:44:14.296166+00'),
	('default', '01a1ffa3-4be3-7295-ab8c-17b848dbb8ec', 'default', 'text:01130b923c4f78840138f2ea1781c911', 'alice', 'Glazes', 'text/plain', 1, '\x01130b923c4f78840138f2ea1781c9115f7fc9408bb691fffb50f30fb18ffee7', '{}', '2026-11-21 19:44:14.307496+00', '2026-11-21 19:44:14.307496+00');
INSERT INTO memory.chunks (tenant_id, id, document_id, text, text_hash, heading_path, tokens, metadata) VALUES
	('default', '01a1ffa3-4bae-71f3-8e19-18410534cb53', '01a1ffa3-4bab-7881-b0a0-c24cffea4493', '# Refunds
Refunds are paid within 14 days.', '\x1891697344464b4211c38c77707b08aefd89f3ce81a035ad11476d8e85581a39', '{Refunds}', 17, '{}'),
	('default', '01a1ffa3-4bae-7032-8dad-830185aa90c0', '01a1ffa3-4bab-7881-b0a0-c24cffea4493', '## Late
After that they are paid with interest of two percent.', '\x9fae928d0587130dee8339fd2d5f70f32e69ffad87b5c96004a43f1b6f04d960', '{Refunds,Late}', 15, '{}'),
	('default', '01a1ffa3-4bd9-7b2a-b587-ff14ebda9ceb', '01a1ffa3-4bab-7881-b0a0-c24cffea4493', '## Cash
Cash is never paid.', '\x7bc9f86b27611411f720899fa19a25955b184bbe4c487baac5bc273e73ef296a', '{Refunds,Cash}', 11, '{}'),
	('default', '01a1ffa3-4be4-7b4d-aff3-87db84d5f7d0', '01a1ffa3-4be3-7295-ab8c-17b848dbb8ec', 'Private notes of Alice about glazes.', '\xff0f2c4889811bea48cdd7fe545a13e4da574a3b277db998afb2710ac7e91272', '{}', 8, '{}');
INSERT INTO memory.document_versions (tenant_id, document_id, version, title, media_type, content_hash, characters, created_at) VALUES
	('default', '01a1ffa3-4bab-7881-b0a0-c24cffea4493', 1, 'Handbook', 'text/markdown', '\x0ca05442c9511cb888c2f54c24c4d99df65a5c13892f00b39edb37ac60b4e972', 109, '2026-11-21 19:44:14.251353+00'),
	('default', '01a1ffa3-4bab-7881-b0a0-c24cffea4493', 2, 'Handbook', 'text/markdown', '\x94054383ee21e0254794923e42dc78851d3e8de0f450b915f70014e5df6aef6e', 139, '2026-11-21 19:44:14.296166+00'),
	('default', '01a1ffa3-4be3-7295-ab8c-17b848dbb8ec', 1, 'Glazes', 'text/plain', '\x01130b923c4f78840138f2ea1781c9115f7fc9408bb691fffb50f30fb18ffee7', 36, '2026-11-21 19:44:14.307496+00');
INSERT INTO memory.chunk_places (tenant_id, document_id, version, ordinal, chunk_id, span_start, span_end, page, line) VALUES
	('default', '01a1ffa3-4bab-7881-b0a0-c24cffea4493', 1, 0, '01a1ffa3-4bae-71f3-8e19-18410534cb53', 0, 43, NULL, 1),
	('default', '01a1ffa3-4bab-7881-b0a0-c24cffea4493', 1, 1, '01a1ffa3-4bae-7032-8dad-830185aa90c0', 45, 108, NULL, 5),
	('default', '01a1ffa3-4bab-7881-b0a0-c24cffea4493', 2, 0, '01a1ffa3-4bae-71f3-8e19-18410534cb53', 0, 43, NULL, 1),
	('default', '01a1ffa3-4bab-7881-b0a0-c24cffea4493', 2, 1, '01a1ffa3-4bae-7032-8dad-830185aa90c0', 45, 108, NULL, 5),
	('default', '01a1ffa3-4bab-7881-b0a0-c24cffea4493', 2, 2, '01a1ffa3-4bd9-7b2a-b587-ff14ebda9ceb', 110, 138, NULL, 9),
	('default', '01a1ffa3-4be3-7295-ab8c-17b848dbb8ec', 1, 0, '01a1ffa3-4be4-7b4d-aff3-87db84d5f7d0', 0, 36, NULL, 1);
INSERT INTO memory.conversations (tenant_id, thread_id, user_id, title, metadata, memory_buffer, message_seq, message_count, indexed_seq, active_hour, created_at, updated_at, retention, forgotten_at, messages_channel, buffer_channels, summary, summary_seq, auto_title, extraction) VALUES
	('default', 'dora-1', 'dora', NULL, '{}', NULL, 1, 1, 1, '2026-11-21 19:00:00+00', '2026-11-21 19:44:14.455095+00', '2026-11-21 19:44:14.455095+00', NULL, '2026-11-21 19:44:14.672309+00', NULL, NULL, NULL, NULL, false, NULL),
	('other', 'chat', 'alice', NULL, '{}', NULL, 1, 1, 1, '2026-11-21 19:00:00+00', '2026-11-21 19:44:14.946405+00', '2026-11-21 19:44:14.946405+00', NULL, NULL, NULL, NULL, NULL, NULL, false, NULL),
	('default', 'graph', 'alice', NULL, '{}', '{"raw": "<2 bytes>", "city": "Lyon", "seen": [1, "a"], "when": "2026-11-02T09:30:00+00:00", "price": "12.50", "steps": [{"n": {"v": "1e+16", "$t": "float"}, "z": {"v": "-0.0", "$t": "float"}}, {"n": {"v": "1e+16", "$t": "float"}, "z": {"v": "-0.0", "$t": "float"}}]}', 8, 4, 8, '2026-11-21 19:00:00+00', '2026-11-21 19:44:13.131125+00', '2026-11-21 19:44:13.513334+00', NULL, NULL, NULL, '["$truncated", "__start__", "branch:to:answer", "branch:to:ask", "city", "messages", "price", "raw", "seen", "steps", "when"]', NULL, NULL, false, NULL),
	('default', 'waiting', 'alice', NULL, '{}', '{"raw": "<2 bytes>", "city": "Lyon", "seen": [1, "a"], "when": "2026-11-02T09:30:00+00:00", "price": "12.50", "steps": [{"n": {"v": "1e+16", "$t": "float"}, "z": {"v": "-0.0", "$t": "float"}}]}', 2, 2, 2, '2026-11-21 19:00:00+00', '2026-11-21 19:44:13.553167+00', '2026-11-21 19:44:13.622249+00', NULL, NULL, NULL, '["$truncated", "__start__", "branch:to:answer", "branch:to:ask", "city", "messages", "price", "raw", "seen", "steps", "when"]', NULL, NULL, false, NULL),
	('default', 'chat', 'carol', 'The kiln', '{}', '{"user_preferences": {"topic": "pricing"}}', 2, 2, 2, '2026-11-21 19:00:00+00', '2026-11-21 19:44:13.653392+00', '2026-11-21 19:44:13.653392+00', '{"expire": "thread", "keep_for": null, "keep_last": 5, "expire_after": null}', NULL, NULL, NULL, NULL, NULL, false, NULL);
INSERT INTO memory.corpus_statistics (tenant_id, kind, passages, total_length) VALUES
	('default', 1, 8, 27),
	('default', 2, 12, 25),
	('default', 3, 4, 28),
	('other', 1, 1, 4),
	('other', 2, 1, 3);
INSERT INTO memory.embedding_models (tenant_id, model_id, name, dims, created_at, spec, ready_at, retired_at) VALUES
	('default', 1354274761, 'tiny', 8, '2026-11-21 19:44:13.355097+00', NULL, '2026-11-21 19:44:13.444962+00', NULL);
INSERT INTO memory.passages (tenant_id, id, kind, user_id, thread_id, seq, document_id, speaker, said_at, live_until, length, lexemes, weights, flagged, keys) VALUES
	('default', '01a1ffa3-450f-7e3b-8c63-340f90286e49', 1, 'alice', NULL, NULL, NULL, NULL, '2026-11-21 19:44:12.590232+00', '2026-11-21 19:44:12.628599+00', 3, '''alic'':1 ''allerg'':3 ''peanut'':5', '{79825453:1.1656442,89167937:1.1656442,256364576:1.1656442}/268435456', false, '{955203313,862643452,855144080}'),
	('default', '01a1ffa3-454e-76cc-be0f-445f482e6ba9', 1, 'alice', NULL, NULL, NULL, NULL, '2026-11-21 19:44:12.628599+00', NULL, 4, '''alic'':1 ''allerg'':3 ''peanut'':5 ''soy'':8', '{79825453:1.1445783,89167937:1.1445783,241658706:1.1445783,256364576:1.1445783}/268435456', false, '{955203313,862643452,855144080,969901443}'),
	('default', '01a1ffa3-4565-7d6e-a3c8-a2abb177ef24', 1, 'alice', 'graph', NULL, NULL, NULL, '2026-11-21 19:44:12.648233+00', NULL, 3, '''alic'':1 ''live'':2 ''lyon'':4', '{38232336:1.1656442,256364576:1.1656442,257302639:1.1656442}/268435456', false, '{955203313,904892353,956223166}'),
	('default', '01a1ffa3-4578-7d1b-99b5-08930763d92d', 1, 'alice', NULL, NULL, NULL, NULL, '2026-11-21 19:44:12.666689+00', '2026-11-21 19:44:12.682182+00', 4, '''alic'':1 ''colour'':4 ''like'':2 ''mauv'':5', '{55738736:1.1445783,212543045:1.1445783,224934084:1.1445783,256364576:1.1445783}/268435456', false, '{955203313,985716245,990103700,888827809}'),
	('default', '01a1ffa3-458d-732f-b842-e2b1d8b9c04f', 1, NULL, NULL, NULL, NULL, NULL, '2026-11-21 19:44:12.692562+00', NULL, 3, '''2019'':6 ''bought'':4 ''kiln'':2', '{2351926:1.1656442,60680952:1.1656442,216000942:1.1656442}/268435456', false, '{931859943,875889705,997656447}'),
	('default', '01a1ffa3-45e2-7e05-851c-86031241ed57', 1, 'bob', NULL, NULL, NULL, NULL, '2026-11-21 19:44:12.780433+00', NULL, 3, '''bob'':1 ''prefer'':2 ''tea'':3', '{74636408:1.1656442,136012670:1.1656442,178222290:1.1656442}/268435456', false, '{1068731823,869937833,1027054083}'),
	('default', '01a1ffa3-4605-766e-ab60-dbd07c158fd6', 1, NULL, NULL, NULL, NULL, NULL, '2026-11-21 19:44:12.808377+00', NULL, 4, '''b'':5 ''releas'':4 ''ship'':1 ''spring'':3', '{65158786:1.1445783,102933653:1.1445783,240999320:1.1445783,266931636:1.1445783}/268435456', false, '{877318227,943842149,972404041,831146564}'),
	('default', '01a1ffa3-477c-7a1a-95af-90d5bba202c8', 2, 'alice', 'graph', 1, NULL, 'human', '2026-11-21 19:44:13.180496+00', NULL, 4, '''like'':6 ''live'':2 ''lyon'':4 ''tea'':7', '{38232336:1.1656442,178222290:1.1656442,212543045:1.1656442,257302639:1.1656442}/268435456', false, '{990103703,904892354,956223165,1027054080}'),
	('default', '01a1ffa3-478d-7f74-9699-2b414710fa46', 2, 'alice', 'graph', 2, NULL, 'ai', '2026-11-21 19:44:13.197742+00', NULL, 1, '''note'':1', '{249251415:1.216}/268435456', false, '{963881093}'),
	('default', '01a1ffa3-4955-7765-b0d7-0a15f253f9ab', 2, 'carol', 'chat', 1, NULL, 'carol', '2026-05-01 00:00:00+00', NULL, 3, '''bought'':6 ''carol'':1 ''kiln'':5', '{60680952:1.1819595,79850897:1.1819595,216000942:1.1819595}/268435456', false, '{875889706,862618435,997656444}'),
	('default', '01a1ffa3-4955-74d1-b129-256c401bb4f8', 2, 'carol', 'chat', 2, NULL, 'ai', '2026-05-01 00:00:00+00', NULL, 1, '''2019'':2', '{2351926:1.216}/268435456', false, '{931859940}'),
	('default', '01a1ffa3-47e8-7aa2-8660-a101197be360', 2, 'alice', 'graph', 3, NULL, 'human', '2026-11-21 19:44:13.288469+00', NULL, 3, '''pleas'':4 ''tool'':3 ''use'':1', '{109036890:1.1819595,130661350:1.1819595,171643947:1.1819595}/268435456', false, '{836184968,811685172,1033108217}'),
	('default', '01a1ffa3-4812-76ef-b02a-28ced3263612', 2, 'alice', 'graph', 5, NULL, 'look_up', '2026-11-21 19:44:13.342386+00', NULL, 3, '''18'':3 ''degre'':4 ''look'':1', '{62922427:1.1819595,82613658:1.1819595,226131806:1.1819595}/268435456', false, '{860126024,986878348,879292521}'),
	('default', '01a1ffa3-4812-76cf-b8d9-28e08a07bed6', 2, 'alice', 'graph', 6, NULL, 'ai', '2026-11-21 19:44:13.342386+00', NULL, 3, '''18'':1 ''degre'':2 ''lyon'':4', '{82613658:1.1819595,226131806:1.1819595,257302639:1.1819595}/268435456', false, '{860126024,986878348,956223165}'),
	('default', '01a1ffa3-48a0-7d42-822e-21aee4422f57', 2, 'alice', 'graph', 7, NULL, 'human', '2026-11-21 19:44:13.472875+00', NULL, 2, '''anoth'':1 ''way'':2', '{72113777:1.1987382,165488220:1.1987382}/268435456', false, '{1047906446,870625443}'),
	('default', '01a1ffa3-48c9-732e-ac8f-bfa401541cb0', 2, 'alice', 'graph', 8, NULL, 'ai', '2026-11-21 19:44:13.513334+00', NULL, 1, '''note'':1', '{249251415:1.216}/268435456', false, '{963881093}'),
	('default', '01a1ffa3-4900-73da-aa03-31bf6236dae6', 2, 'alice', 'waiting', 1, NULL, 'human', '2026-11-21 19:44:13.568262+00', NULL, 2, '''pleas'':1 ''wait'':2', '{109036890:1.1987382,118942892:1.1987382}/268435456', false, '{836184968,817758846}'),
	('default', '01a1ffa3-4930-7786-a35f-e82f0b7f4706', 2, 'alice', 'waiting', 2, NULL, 'ai', '2026-11-21 19:44:13.622249+00', NULL, 1, '''note'':1', '{249251415:1.216}/268435456', false, '{963881093}'),
	('default', '01a1ffa3-4bae-7032-8dad-830185aa90c0', 3, NULL, NULL, NULL, '01a1ffa3-4bab-7881-b0a0-c24cffea4493', NULL, '2026-11-21 19:44:14.296166+00', NULL, 8, '''handbook'':1 ''interest'':11 ''late'':3,4 ''paid'':9 ''percent'':14 ''refund'':2 ''two'':13', '{8978459:1.4792899,30814227:1.2111168,40414577:1.2111168,66866384:1.2111168,136855695:1.2111168,188819680:1.2111168,265840408:1.2111168}/268435456', false, '{1021953587,1065397852,924970696,901792674,946899403,914284224,877961731}'),
	('default', '01a1ffa3-4bae-71f3-8e19-18410534cb53', 3, NULL, NULL, NULL, '01a1ffa3-4bab-7881-b0a0-c24cffea4493', NULL, '2026-11-21 19:44:14.296166+00', NULL, 8, '''14'':8 ''day'':9 ''handbook'':1 ''paid'':6 ''refund'':2,3,4 ''within'':7', '{30814227:1.5971755,40414577:1.2111168,139623050:1.2111168,155501183:1.2111168,188819680:1.2111168,252732279:1.2111168}/268435456', false, '{1073386585,1055665324,1021953587,901792674,914284224,951618980}'),
	('default', '01a1ffa3-4bd9-7b2a-b587-ff14ebda9ceb', 3, NULL, NULL, NULL, '01a1ffa3-4bab-7881-b0a0-c24cffea4493', NULL, '2026-11-21 19:44:14.296166+00', NULL, 7, '''cash'':3,4,5 ''handbook'':1 ''never'':7 ''paid'':8 ''refund'':2', '{30814227:1.2139024,40414577:1.2139024,105479756:1.2139024,179371245:1.5987883,188819680:1.2139024}/268435456', false, '{1024987710,1021953587,836866207,901792674,914284224}'),
	('default', '01a1ffa3-4be4-7b4d-aff3-87db84d5f7d0', 3, 'alice', NULL, NULL, '01a1ffa3-4be3-7295-ab8c-17b848dbb8ec', NULL, '2026-11-21 19:44:14.307496+00', NULL, 5, '''alic'':5 ''glaze'':1,7 ''note'':3 ''privat'':2', '{12258311:1.2195122,65839932:1.4855356,249251415:1.2195122,256364576:1.2195122}/268435456', false, '{955203315,876891631,963881092,924050132}'),
	('default', '01a1ffa3-4c53-78fb-a8ec-d2ea6ed31369', 1, 'dora', NULL, NULL, NULL, NULL, '2026-11-21 19:44:14.428735+00', '2026-11-21 19:44:14.672309+00', 3, '''dora'':1 ''kiln'':3 ''red'':5', '{110998298:1.1656442,186601894:1.1656442,216000942:1.1656442}/268435456', false, '{825581003,997656447,1018675063}'),
	('default', '01a1ffa3-4c71-7f58-90e0-5b5e821403c4', 2, 'dora', 'dora-1', 1, NULL, 'human', '2026-11-21 19:44:14.449214+00', '-infinity', 1, '''hello'':1', '{47129820:1.216}/268435456', false, '{895994382}'),
	('other', '01a1ffa3-4e0d-716d-be78-21aa8d63b229', 1, 'alice', NULL, NULL, NULL, NULL, '2026-11-21 19:44:14.897394+00', NULL, 4, '''anoth'':1 ''kiln'':5 ''know'':3 ''tenant'':2', '{165488220:1.1445783,215071537:1.1445783,216000942:1.1445783,245213294:1.1445783}/268435456', false, '{-789271427,-705272945,-705154800,-676060593}'),
	('other', '01a1ffa3-4e5b-72b2-a403-bfe76ca19378', 2, 'alice', 'chat', 1, NULL, 'human', '2026-11-21 19:44:14.939749+00', NULL, 3, '''anoth'':1 ''tenant'':2 ''word'':4', '{160177845:1.1819595,165488220:1.1819595,245213294:1.1819595}/268435456', false, '{-789271426,-676060596,-794454889}');
INSERT INTO memory.embedding_queue (tenant_id, model_id, passage_id, attempts, not_before) VALUES
	('default', 1354274761, '01a1ffa3-4c71-7f58-90e0-5b5e821403c4', 0, NULL);
INSERT INTO memory.embeddings (tenant_id, model_id, passage_id, vector, part) VALUES
	('default', 1354274761, '01a1ffa3-450f-7e3b-8c63-340f90286e49', '[0.3869629,0.035186768,0.035186768,0.73876953,0.3869629,0.035186768,0.3869629,0.035186768]', 0),
	('default', 1354274761, '01a1ffa3-454e-76cc-be0f-445f482e6ba9', '[0.2019043,0.018356323,0.018356323,0.93603516,0.2019043,0.018356323,0.2019043,0.018356323]', 0),
	('default', 1354274761, '01a1ffa3-4565-7d6e-a3c8-a2abb177ef24', '[0.04525757,0.04525757,0.49804688,0.49804688,0.04525757,0.04525757,0.49804688,0.49804688]', 0),
	('default', 1354274761, '01a1ffa3-4578-7d1b-99b5-08930763d92d', '[0.3869629,0.3869629,0.035186768,0.035186768,0.3869629,0.035186768,0.73876953,0.035186768]', 0),
	('default', 1354274761, '01a1ffa3-458d-732f-b842-e2b1d8b9c04f', '[0.032836914,0.6894531,0.032836914,0.36108398,0.36108398,0.032836914,0.36108398,0.36108398]', 0),
	('default', 1354274761, '01a1ffa3-45e2-7e05-851c-86031241ed57', '[0.052124023,0.052124023,0.5732422,0.5732422,0.052124023,0.052124023,0.052124023,0.5732422]', 0),
	('default', 1354274761, '01a1ffa3-4605-766e-ab60-dbd07c158fd6', '[0.027435303,0.85058594,0.3017578,0.3017578,0.3017578,0.027435303,0.027435303,0.027435303]', 0),
	('default', 1354274761, '01a1ffa3-477c-7a1a-95af-90d5bba202c8', '[0.6489258,0.33984375,0.33984375,0.33984375,0.030883789,0.33984375,0.030883789,0.33984375]', 0),
	('default', 1354274761, '01a1ffa3-478d-7f74-9699-2b414710fa46', '[0.97216797,0.088378906,0.088378906,0.088378906,0.088378906,0.088378906,0.088378906,0.088378906]', 0),
	('default', 1354274761, '01a1ffa3-47e8-7aa2-8660-a101197be360', '[0.04525757,0.49804688,0.49804688,0.04525757,0.04525757,0.49804688,0.49804688,0.04525757]', 0),
	('default', 1354274761, '01a1ffa3-4812-76cf-b8d9-28e08a07bed6', '[0.4194336,0.4194336,0.038116455,0.038116455,0.038116455,0.038116455,0.038116455,0.80078125]', 0),
	('default', 1354274761, '01a1ffa3-4812-76ef-b02a-28ced3263612', '[0.06347656,0.69873047,0.06347656,0.06347656,0.06347656,0.06347656,0.06347656,0.69873047]', 0),
	('default', 1354274761, '01a1ffa3-48a0-7d42-822e-21aee4422f57', '[0.04724121,0.9921875,0.04724121,0.04724121,0.04724121,0.04724121,0.04724121,0.04724121]', 0),
	('default', 1354274761, '01a1ffa3-48c9-732e-ac8f-bfa401541cb0', '[0.97216797,0.088378906,0.088378906,0.088378906,0.088378906,0.088378906,0.088378906,0.088378906]', 0),
	('default', 1354274761, '01a1ffa3-4900-73da-aa03-31bf6236dae6', '[0.06347656,0.06347656,0.69873047,0.06347656,0.06347656,0.69873047,0.06347656,0.06347656]', 0),
	('default', 1354274761, '01a1ffa3-4930-7786-a35f-e82f0b7f4706', '[0.97216797,0.088378906,0.088378906,0.088378906,0.088378906,0.088378906,0.088378906,0.088378906]', 0),
	('default', 1354274761, '01a1ffa3-4955-74d1-b129-256c401bb4f8', '[0.06347656,0.06347656,0.69873047,0.06347656,0.06347656,0.06347656,0.06347656,0.69873047]', 0),
	('default', 1354274761, '01a1ffa3-4955-7765-b0d7-0a15f253f9ab', '[0.44604492,0.44604492,0.44604492,0.44604492,0.04055786,0.04055786,0.44604492,0.04055786]', 0),
	('default', 1354274761, '01a1ffa3-4bae-7032-8dad-830185aa90c0', '[0.14685059,0.14685059,0.4140625,0.01335144,0.14685059,0.14685059,0.8144531,0.28051758]', 0),
	('default', 1354274761, '01a1ffa3-4bae-71f3-8e19-18410534cb53', '[0.22058105,0.020050049,0.020050049,0.42089844,0.020050049,0.22058105,0.22058105,0.82177734]', 0),
	('default', 1354274761, '01a1ffa3-4bd9-7b2a-b587-ff14ebda9ceb', '[0.2121582,0.01928711,0.01928711,0.01928711,0.4050293,0.01928711,0.4050293,0.7910156]', 0),
	('default', 1354274761, '01a1ffa3-4be4-7b4d-aff3-87db84d5f7d0', '[0.032836914,0.36108398,0.032836914,0.6894531,0.36108398,0.36108398,0.36108398,0.032836914]', 0),
	('default', 1354274761, '01a1ffa3-4c53-78fb-a8ec-d2ea6ed31369', '[0.49804688,0.04525757,0.04525757,0.49804688,0.49804688,0.04525757,0.49804688,0.04525757]', 0);
INSERT INTO memory.feedback (tenant_id, thread_id, message, given_by, outcome, score, comment, given_at) VALUES
	('default', 'graph', '01a1ffa3-48a0-7d42-822e-21aee4422f57', 'alice', 'good', 0.9, 'right', '2026-11-21 19:44:14.377694+00');
INSERT INTO memory.forgotten_users (tenant_id, user_id, forgotten_at) VALUES
	('default', 'dora', '2026-11-21 19:44:14.672309+00');
INSERT INTO memory.index_queue (tenant_id, kind, item) VALUES
	('default', 2, 'chat');
INSERT INTO memory.listeners (tenant_id, id, until) VALUES
	('default', '01997c1e-52a4-7f6b-9d52-6f1d9f2b8a11', '2026-11-20 10:00:00+00');
INSERT INTO memory.memories (tenant_id, id, item_id, version, namespace, key, content, content_hash, value, user_id, thread_id, agent_id, metadata, source, importance, trust, index_fields, valid_from, valid_to, recorded_at, superseded_at, created_at, ttl_minutes, expires_at, last_access_at) VALUES
	('default', '01a1ffa3-450f-7e3b-8c63-340f90286e49', '01a1ffa3-450f-72f9-aaac-b5ec4ae1a053', 1, '{memories,alice}', 'diet', 'Alice is allergic to peanuts', '\xdb86d12d1b0a8119e3f5f3e5d29e3b3a99f9722831c73a9462596e242b2b6f5e', '{"content": "Alice is allergic to peanuts"}', 'alice', NULL, NULL, '{"kind": "health"}', '{"message_id": "h-1"}', 0.5, 'user', NULL, NULL, NULL, '2026-11-21 19:44:12.590232+00', '2026-11-21 19:44:12.628599+00', '2026-11-21 19:44:12.590232+00', NULL, NULL, NULL),
	('default', '01a1ffa3-454e-76cc-be0f-445f482e6ba9', '01a1ffa3-450f-72f9-aaac-b5ec4ae1a053', 2, '{memories,alice}', 'diet', 'Alice is allergic to peanuts and to soy', '\x38c369f21b9d0a54e0c7659cf30b53fa25da02f16360610bf598a6cd99df5739', '{"content": "Alice is allergic to peanuts and to soy"}', 'alice', NULL, NULL, '{}', NULL, 0.5, 'user', NULL, NULL, NULL, '2026-11-21 19:44:12.628599+00', NULL, '2026-11-21 19:44:12.590232+00', NULL, NULL, NULL),
	('default', '01a1ffa3-4565-7d6e-a3c8-a2abb177ef24', '01a1ffa3-4565-7c93-93bc-21a28fa3ab2c', 1, '{memories,alice}', '2de7297e-0c4d-5c7e-aad8-b4c57bd1e79b', 'Alice lives in Lyon', '\x3c8e0aad651f18b95999470c3a2148735b16690568bc6799b1accc4f9ff0458b', '{"content": "Alice lives in Lyon"}', 'alice', 'graph', NULL, '{}', NULL, 0.5, 'user', NULL, '2024-01-01 00:00:00+00', NULL, '2026-11-21 19:44:12.648233+00', NULL, '2026-11-21 19:44:12.648233+00', NULL, NULL, NULL),
	('default', '01a1ffa3-4578-7d1b-99b5-08930763d92d', '01a1ffa3-4578-7775-a9dc-0710a26c0b53', 1, '{memories,alice}', '6430009e-5c74-57d2-bea1-2fa8062e7f34', 'Alice likes the colour mauve', '\x4fe93744921ed9ae997ba21605c385639e18b9ff4a4b8fe8a0232dd41b823201', '{"content": "Alice likes the colour mauve"}', 'alice', NULL, NULL, '{}', NULL, 0.5, 'user', NULL, NULL, NULL, '2026-11-21 19:44:12.666689+00', '2026-11-21 19:44:12.682182+00', '2026-11-21 19:44:12.666689+00', NULL, NULL, NULL),
	('default', '01a1ffa3-458d-732f-b842-e2b1d8b9c04f', '01a1ffa3-458d-7a83-9a6e-5443f87de093', 1, '{memories}', '86dd1679-3cb4-5d5a-bb03-4a38a69139b1', 'The kiln was bought in 2019', '\x1d2d5adcec2529591c9b5c9c1fcae29749f8453a3df15a93de43733fc4b53944', '{"content": "The kiln was bought in 2019"}', NULL, NULL, NULL, '{"about": "kiln"}', NULL, 0.5, 'user', NULL, NULL, NULL, '2026-11-21 19:44:12.692562+00', NULL, '2026-11-21 19:44:12.692562+00', NULL, NULL, NULL),
	('default', '01a1ffa3-45e2-7e05-851c-86031241ed57', '01a1ffa3-45e2-7739-b8ec-f2955617df72', 1, '{memories,bob}', 'tea', 'Bob prefers tea', '\x1256c51c7cd3e9adee21a9e28ec64327ba1dd9d26604dc24f3cfca72f1b61744', '{"$o": ["1,0", {}], "cups": 3, "text": "Bob prefers tea"}', 'bob', NULL, NULL, '{}', NULL, 0.5, 'user', NULL, NULL, NULL, '2026-11-21 19:44:12.780433+00', NULL, '2026-11-21 19:44:12.780433+00', NULL, NULL, NULL),
	('default', '01a1ffa3-4605-766e-ab60-dbd07c158fd6', '01a1ffa3-4605-763e-a2db-db68ae7acffe', 1, '{team,plans}', 'q1', 'Ship the spring release
b
a', '\x36634b9646e19593978c75fbc697acc221ee5e134368baa0973b66ddb71b55cc', '{"$o": ["1,0", {}], "order": ["b", "a"], "title": "Ship the spring release"}', NULL, NULL, NULL, '{}', NULL, 0.5, 'user', NULL, NULL, NULL, '2026-11-21 19:44:12.808377+00', NULL, '2026-11-21 19:44:12.808377+00', NULL, NULL, NULL),
	('default', '01a1ffa3-4c53-78fb-a8ec-d2ea6ed31369', '01a1ffa3-4c53-7509-86d2-dd2dd4f4cc30', 1, '{memories,dora}', '3a5a9f4b-81c9-572f-b2a7-5dc25d1a5d65', 'Dora''s kiln is red', '\x999b4c045f5d855ddf5cb87211f2cb404af1c5793a5ddd51305b1ad16f2f4910', '{"content": "Dora''s kiln is red"}', 'dora', NULL, NULL, '{}', NULL, 0.5, 'user', NULL, NULL, NULL, '2026-11-21 19:44:14.428735+00', '2026-11-21 19:44:14.672309+00', '2026-11-21 19:44:14.428735+00', NULL, NULL, NULL),
	('other', '01a1ffa3-4e0d-716d-be78-21aa8d63b229', '01a1ffa3-4e0d-7111-b8bf-131639f55e14', 1, '{memories,alice}', 'diet', 'Another tenant knows the kiln too', '\xfa7fc813cf671e4153f02306e375add408905a6e1730228d98e7684a6c9b0075', '{"content": "Another tenant knows the kiln too"}', 'alice', NULL, NULL, '{}', NULL, 0.5, 'user', NULL, NULL, NULL, '2026-11-21 19:44:14.897394+00', NULL, '2026-11-21 19:44:14.897394+00', NULL, NULL, NULL);
INSERT INTO memory.messages (tenant_id, thread_id, seq, id, origin, role, message_id, name, text, body, type, raw, said_at) VALUES
	('default', 'graph', 1, '01a1ffa3-477c-7a1a-95af-90d5bba202c8', 0, 'human', 'h-1', NULL, 'I live in Lyon and like tea.', '{"type": "human"}', NULL, NULL, '2026-11-21 19:44:13.180496+00'),
	('default', 'graph', 2, '01a1ffa3-478d-7f74-9699-2b414710fa46', 0, 'ai', '654657b8-b018-4bd6-8297-4cff1ad59eae', NULL, 'Noted.', '{"type": "ai"}', NULL, NULL, '2026-11-21 19:44:13.197742+00'),
	('default', 'graph', 3, '01a1ffa3-47e8-7aa2-8660-a101197be360', 0, 'human', 'h-2', NULL, 'use the tool please', '{"type": "human"}', NULL, NULL, '2026-11-21 19:44:13.288469+00'),
	('default', 'graph', 4, '01a1ffa3-4812-7290-81c8-d65cfba0fa96', 0, 'ai', '53ddcadd-138d-46bf-a514-eb746cf61460', NULL, '', '{"$o": ["", {"tool_calls": "2,1,0,3"}], "type": "ai", "tool_calls": [{"id": "call-1", "args": {"city": "Lyon"}, "name": "look_up", "type": "tool_call"}]}', NULL, NULL, '2026-11-21 19:44:13.342386+00'),
	('default', 'graph', 5, '01a1ffa3-4812-76ef-b02a-28ced3263612', 0, 'tool', '29c6430a-1d3c-4428-8f7c-585db6f538e3', 'look_up', '18 degrees', '{"name": "look_up", "type": "tool", "tool_call_id": "call-1"}', NULL, NULL, '2026-11-21 19:44:13.342386+00'),
	('default', 'graph', 6, '01a1ffa3-4812-76cf-b8d9-28e08a07bed6', 0, 'ai', 'ca3e7d64-5425-48a0-ab42-b3edf9dc8dfa', NULL, '18 degrees in Lyon.', '{"type": "ai"}', NULL, NULL, '2026-11-21 19:44:13.342386+00'),
	('default', 'graph', 7, '01a1ffa3-48a0-7d42-822e-21aee4422f57', 0, 'human', 'h-3', NULL, 'another way', '{"type": "human"}', NULL, NULL, '2026-11-21 19:44:13.472875+00'),
	('default', 'graph', 8, '01a1ffa3-48c9-732e-ac8f-bfa401541cb0', 0, 'ai', 'c33759fb-c008-4edc-a6d9-23848830a0f2', NULL, 'Noted.', '{"type": "ai"}', NULL, NULL, '2026-11-21 19:44:13.513334+00'),
	('default', 'waiting', 1, '01a1ffa3-4900-73da-aa03-31bf6236dae6', 0, 'human', 'h-4', NULL, 'please wait', '{"type": "human"}', NULL, NULL, '2026-11-21 19:44:13.568262+00'),
	('default', 'waiting', 2, '01a1ffa3-4930-7786-a35f-e82f0b7f4706', 0, 'ai', 'd6febdf3-911c-4e35-a585-5e8238ca34dd', NULL, 'Noted.', '{"type": "ai"}', NULL, NULL, '2026-11-21 19:44:13.622249+00'),
	('default', 'chat', 1, '01a1ffa3-4955-7765-b0d7-0a15f253f9ab', 1, 'human', 'c-1', 'carol', 'When was the kiln bought?', '{"name": "carol", "type": "human"}', NULL, NULL, '2026-05-01 00:00:00+00'),
	('default', 'chat', 2, '01a1ffa3-4955-74d1-b129-256c401bb4f8', 1, 'ai', 'c-2', NULL, 'In 2019.', '{"type": "ai"}', NULL, NULL, '2026-05-01 00:00:00+00'),
	('default', 'dora-1', 1, '01a1ffa3-4c71-7f58-90e0-5b5e821403c4', 1, 'human', NULL, NULL, 'hello', '{"type": "human"}', NULL, NULL, '2026-11-21 19:44:14.449214+00'),
	('other', 'chat', 1, '01a1ffa3-4e5b-72b2-a403-bfe76ca19378', 1, 'human', NULL, NULL, 'another tenant''s words', '{"type": "human"}', NULL, NULL, '2026-11-21 19:44:14.939749+00');
INSERT INTO memory.proposals (tenant_id, id, thread_id, user_id, content, content_hash, subject, attribute, messages, importance, valid_from, model, status, memory_id, created_at, decided_at) VALUES
	('default', '01997c1e-52a4-7f6b-9d52-6f1d9f2b8a12', 'graph', 'alice', 'Alice likes tea', '\x31006013baec0b33f6cfc3a2ec44bf3c44d41fe664ec118c093436152c4a2e55', 'Alice', 'drink', '{h-1}', 0.7, NULL, 'model-1', 'open', NULL, '2026-11-21 19:44:14.723095+00', NULL);
INSERT INTO memory.search_languages (tenant_id, languages, changed_at) VALUES
	('default', '{english,german}', '2026-11-21 19:44:14.336146+00');
INSERT INTO memory.shared_conversations (tenant_id, id, thread_id, last_message, created_at, expires_at) VALUES
	('default', '-53D7KMYGHgFYtzwpghw7x86b2RAVNiw', 'chat', '01a1ffa3-4955-74d1-b129-256c401bb4f8', '2026-11-21 19:44:14.392831+00', NULL);
INSERT INTO memory.term_statistics (tenant_id, kind, term, passages) VALUES
	('default', 1, 2351926, 1),
	('default', 1, 38232336, 1),
	('default', 1, 55738736, 1),
	('default', 1, 60680952, 1),
	('default', 1, 65158786, 1),
	('default', 1, 74636408, 1),
	('default', 1, 79825453, 2),
	('default', 1, 89167937, 2),
	('default', 1, 102933653, 1),
	('default', 1, 136012670, 1),
	('default', 1, 178222290, 1),
	('default', 1, 212543045, 1),
	('default', 1, 224934084, 1),
	('default', 1, 240999320, 1),
	('default', 1, 241658706, 1),
	('default', 1, 256364576, 4),
	('default', 1, 257302639, 1),
	('default', 1, 266931636, 1),
	('default', 2, 38232336, 1),
	('default', 2, 178222290, 1),
	('default', 2, 212543045, 1),
	('default', 2, 2351926, 1),
	('default', 2, 60680952, 1),
	('default', 2, 62922427, 1),
	('default', 2, 72113777, 1),
	('default', 2, 79850897, 1),
	('default', 2, 82613658, 2),
	('default', 2, 109036890, 2),
	('default', 2, 118942892, 1),
	('default', 2, 130661350, 1),
	('default', 2, 165488220, 1),
	('default', 2, 171643947, 1),
	('default', 2, 216000942, 1),
	('default', 2, 226131806, 2),
	('default', 2, 249251415, 3),
	('default', 2, 257302639, 2),
	('default', 1, 110998298, 1),
	('default', 1, 186601894, 1),
	('default', 1, 216000942, 2),
	('default', 2, 47129820, 1),
	('default', 3, 8978459, 1),
	('default', 3, 12258311, 1),
	('default', 3, 30814227, 3),
	('default', 3, 40414577, 3),
	('default', 3, 65839932, 1),
	('default', 3, 66866384, 1),
	('default', 3, 105479756, 1),
	('default', 3, 136855695, 1),
	('default', 3, 139623050, 1),
	('default', 3, 155501183, 1),
	('default', 3, 179371245, 1),
	('default', 3, 188819680, 3),
	('default', 3, 249251415, 1),
	('default', 3, 252732279, 1),
	('default', 3, 256364576, 1),
	('default', 3, 265840408, 1),
	('other', 1, 165488220, 1),
	('other', 1, 215071537, 1),
	('other', 1, 216000942, 1),
	('other', 1, 245213294, 1),
	('other', 2, 160177845, 1),
	('other', 2, 165488220, 1),
	('other', 2, 245213294, 1);
INSERT INTO memory.tokens (tenant_id, id, name, user_id, scopes, secret_hash, created_at, expires_at, used_hour, revoked_at) VALUES
	('default', '01a1ffa3-4c12-7bf5-92b9-cc601c1325a2', 'laptop', 'alice', '{read,write}', '\x46da56571077526ff5166055ad8e12f4774702bf082b36c5ad8b1091e64706d8', '2026-11-21 19:44:14.354522+00', '2036-11-18 19:44:14.354522+00', NULL, NULL),
	('default', '01a1ffa3-4c17-71f4-84ce-5dfed9a15e07', 'batch', NULL, '{read,service}', '\x6ee4f7c181cecf019698c11ced5bd9bf7100f3e0b6c6b6364b01d3c219b2b01d', '2026-11-21 19:44:14.359736+00', NULL, NULL, '2026-11-21 19:44:14.363507+00');
INSERT INTO memory.user_memory (tenant_id, user_id, version, content, created_at, updated_at) VALUES
	('default', 'alice', 1, 'A potter in Lyon.', '2026-11-21 19:44:14.319356+00', '2026-11-21 19:44:14.319356+00'),
	('default', 'alice', 2, 'A potter in Lyon, allergic to peanuts and soy.', '2026-11-21 19:44:14.319356+00', '2026-11-21 19:44:14.323487+00');
INSERT INTO memory.working_memory (tenant_id, scope, scope_id, version, content, updated_at) VALUES
	('default', 'user', 'alice', 1, '- buy clay', '2026-11-21 19:44:14.3114+00'),
	('default', 'user', 'alice', 2, '- buy clay
- fire the kiln', '2026-11-21 19:44:14.315305+00'),
	('default', 'chat', 'chat', 1, 'open questions: none', '2026-11-21 19:44:14.316516+00');
