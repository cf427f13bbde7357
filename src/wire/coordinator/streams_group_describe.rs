//! StreamsGroupDescribe: state, topology, members and tasks of Kafka Streams groups (KIP-1071).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api STREAMS_GROUP_DESCRIBE = 89 [0-1] flexible [0+]: StreamsGroupDescribeRequest => StreamsGroupDescribeResponse;

    struct StreamsGroupDescribeRequest {
        group_ids: Vec<Arc<str>> [0+];
        include_authorized_operations: bool [0+];
        include_topology_description: bool [1+];
    }

    struct StreamsGroupDescribeResponse {
        throttle_time_ms: i32 [0+];
        groups: Vec<DescribedGroup> [0+];
    }

    struct DescribedGroup {
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+];
        group_id: Arc<str> [0+];
        group_state: Arc<str> [0+];
        group_epoch: i32 [0+];
        assignment_epoch: i32 [0+];
        topology: Option<Topology> [0+, null 0+];
        members: Vec<Member> [0+];
        authorized_operations: i32 [0+] = -2147483648;
        topology_description: Option<TopologyDescription> [1+, null 1+];
        topology_description_status: i8 [1+];
        assignor_name: Option<Arc<str>> [1+, null 1+, ignorable];
    }

    struct Topology {
        epoch: i32 [0+];
        subtopologies: Option<Vec<Subtopology>> [0+, null 0+];
    }

    struct Subtopology {
        subtopology_id: Arc<str> [0+];
        source_topics: Vec<Arc<str>> [0+];
        repartition_sink_topics: Vec<Arc<str>> [0+];
        state_changelog_topics: Vec<TopicInfo> [0+];
        repartition_source_topics: Vec<TopicInfo> [0+];
    }

    struct TopicInfo {
        name: Arc<str> [0+];
        partitions: i32 [0+];
        replication_factor: i16 [0+];
        topic_configs: Vec<KeyValue> [0+];
    }

    struct KeyValue {
        key: Arc<str> [0+];
        value: Arc<str> [0+];
    }

    struct Member {
        member_id: Arc<str> [0+];
        member_epoch: i32 [0+];
        instance_id: Option<Arc<str>> [0+, null 0+];
        rack_id: Option<Arc<str>> [0+, null 0+];
        client_id: Arc<str> [0+];
        client_host: Arc<str> [0+];
        topology_epoch: i32 [0+];
        process_id: Arc<str> [0+];
        user_endpoint: Option<Endpoint> [0+, null 0+];
        client_tags: Vec<KeyValue> [0+];
        task_offsets: Vec<TaskOffset> [0+];
        task_end_offsets: Vec<TaskOffset> [0+];
        assignment: Assignment [0+];
        target_assignment: Assignment [0+];
        is_classic: bool [0+];
    }

    struct Endpoint {
        host: Arc<str> [0+];
        port: u16 [0+];
    }

    struct TaskOffset {
        subtopology_id: Arc<str> [0+];
        partition: i32 [0+];
        offset: i64 [0+];
    }

    struct Assignment {
        active_tasks: Vec<TaskIds> [0+];
        standby_tasks: Vec<TaskIds> [0+];
        warmup_tasks: Vec<TaskIds> [0+];
    }

    struct TaskIds {
        subtopology_id: Arc<str> [0+];
        partitions: Vec<i32> [0+];
    }

    struct TopologyDescription {
        subtopologies: Vec<TopologyDescriptionSubtopology> [1+];
        global_stores: Vec<TopologyDescriptionGlobalStore> [1+];
    }

    struct TopologyDescriptionSubtopology {
        subtopology_id: Arc<str> [1+];
        nodes: Vec<TopologyDescriptionNode> [1+];
    }

    struct TopologyDescriptionNode {
        name: Arc<str> [1+];
        node_type: i8 [1+];
        source_topics: Vec<Arc<str>> [1+];
        sink_topic: Option<Arc<str>> [1+, null 1+];
        stores: Vec<Arc<str>> [1+];
        successors: Vec<Arc<str>> [1+];
    }

    struct TopologyDescriptionGlobalStore {
        source: TopologyDescriptionNode [1+];
        processor: TopologyDescriptionNode [1+];
    }
}
