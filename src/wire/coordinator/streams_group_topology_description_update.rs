//! StreamsGroupTopologyDescriptionUpdate: the topology of a Kafka Streams group, for others to read (KIP-1331).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api STREAMS_GROUP_TOPOLOGY_DESCRIPTION_UPDATE = 93 [0] flexible [0+]:
        StreamsGroupTopologyDescriptionUpdateRequest => StreamsGroupTopologyDescriptionUpdateResponse;

    struct StreamsGroupTopologyDescriptionUpdateRequest {
        group_id: Arc<str> [0+];
        member_id: Arc<str> [0+];
        topology_epoch: i32 [0+];
        topology_description: TopologyDescription [0+];
    }

    struct TopologyDescription {
        subtopologies: Vec<TopologyDescriptionSubtopology> [0+];
        global_stores: Vec<TopologyDescriptionGlobalStore> [0+];
    }

    struct TopologyDescriptionSubtopology {
        subtopology_id: Arc<str> [0+];
        nodes: Vec<TopologyDescriptionNode> [0+];
    }

    struct TopologyDescriptionNode {
        name: Arc<str> [0+];
        node_type: i8 [0+];
        source_topics: Vec<Arc<str>> [0+];
        sink_topic: Option<Arc<str>> [0+, null 0+];
        stores: Vec<Arc<str>> [0+];
        successors: Vec<Arc<str>> [0+];
    }

    struct TopologyDescriptionGlobalStore {
        source: TopologyDescriptionNode [0+];
        processor: TopologyDescriptionNode [0+];
    }

    struct StreamsGroupTopologyDescriptionUpdateResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+];
    }
}
